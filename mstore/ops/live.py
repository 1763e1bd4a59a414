"""Hold a live model against its checkpoint, while the training process still has its weights."""

import inspect
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mstore.domain.tensors import Tensor, TensorTable
from mstore.errors import UsageError, WeightsNotSavedError
from mstore.formats.crc import masked_crc

if TYPE_CHECKING:
    from mstore.convert.examples import Example

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


def example_of(model: Any, batch: Any) -> "Example":
    """Run a live model on a batch and return both as a golden example.

    Args:
        model: a Keras model, or anything that is called with the batch.
        batch: an array, or a mapping of input key to array. An array stands for the only input.

    Raises:
        UsageError: the model cannot be called with it.
    """
    import numpy as np  # noqa: PLC0415 - the training process has it already

    from mstore.convert.examples import ONLY, Example  # noqa: PLC0415 - the same

    named = isinstance(batch, Mapping)
    inputs = {str(k): np.asarray(v) for k, v in (batch if named else {ONLY: batch}).items()}
    try:
        outputs = _call(model, inputs if named else inputs[ONLY])
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"the live model cannot be called with the example: {error}",
            hint="give an array, or a mapping with the keys of the model's inputs",
        ) from error
    if isinstance(outputs, Mapping):
        found = {str(key): np.asarray(value) for key, value in outputs.items()}
    elif isinstance(outputs, (list, tuple)):
        names = getattr(model, "output_names", None) or ()
        if len(names) != len(outputs):
            names = [f"output_{at}" for at in range(len(outputs))]
        found = {name: np.asarray(value) for name, value in zip(names, outputs, strict=True)}
    else:
        found = {ONLY: np.asarray(outputs)}
    return Example(inputs, found)


def _call(model: Any, batch: Any) -> Any:
    parameters = inspect.signature(model.call if hasattr(model, "call") else model).parameters
    if "training" in parameters or hasattr(model, "layers"):
        return model(batch, training=False)
    return model(batch)


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
