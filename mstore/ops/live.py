"""Hold a live model against its checkpoint, while the training process still has its weights."""

from collections import Counter
from typing import Any

from mstore.domain.tensors import Tensor, TensorTable
from mstore.errors import WeightsNotSavedError
from mstore.formats.crc import masked_crc

Content = tuple[str, tuple[int, ...], int]


def ensure_saved(model: Any, table: TensorTable) -> None:
    """Check that a checkpoint holds every weight of a live model.

    ``tf.train.Checkpoint`` of a Keras 3 model writes nothing of layers that sit in Python lists or
    dicts. Each weight must be found among the tensors by dtype, shape and CRC32C, as often as the
    model has it; slots of optimizers do not count, so that a lost bias of zeros is not excused by
    a slot that is zero too.

    Args:
        model: has ``weights`` (Keras) or ``variables`` (``tf.Module``).
        table: tensor table of its checkpoint.

    Raises:
        WeightsNotSavedError: naming the weights that are not in it.
    """
    held = Counter(tensor.content for tensor in table.values if not _is_slot(tensor))
    missing = []
    for weight in _weights(model):
        content = _content(weight)
        if held[content] > 0:
            held[content] -= 1
        else:
            missing.append(getattr(weight, "path", None) or weight.name)
    if missing:
        raise WeightsNotSavedError(
            f"the checkpoint does not hold {len(missing)} weights of the live model: "
            + ", ".join(missing[:20]),
            weights=missing,
            hint="layers in plain lists or dicts are not tracked: assign each to an attribute of "
            "its own, or save the optimizer with the model; if training went on since the save, "
            "save again",
        )


def _weights(model: Any) -> list[Any]:
    weights = model.weights if hasattr(model, "weights") else model.variables
    return list({id(weight): weight for weight in weights}.values())


def _content(weight: Any) -> Content:
    array = weight.numpy()
    dtype = getattr(weight.dtype, "name", None) or str(weight.dtype)
    crc = masked_crc(array.tobytes())
    return (dtype, tuple(array.shape), crc)


def _is_slot(tensor: Tensor) -> bool:
    """Return whether a tensor is an optimizer's own state and no weight of the model.

    Keras 3 keeps slots under ``optimizer/_variables`` (and the model's weights, sometimes only,
    under ``optimizer/_trainable_variables``); Keras 2 under ``.OPTIMIZER_SLOT``.
    """
    name = tensor.name
    return "/_variables/" in name or ".OPTIMIZER_SLOT" in name
