"""What the paths of Keras weights mean: names of variables, the step.

Keras 3 stores each variable under the attributes that lead to its layer, numbered within it
(``layers/dense_1/vars/0``), and beside them the layer's name (``_save_state`` and ``H5IOStore`` in
keras/src/saving/saving_lib.py). Legacy files store it under its own name, listed in
``weight_names`` (keras/src/legacy/saving/legacy_h5_format.py).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from mstore.formats.hdf5 import Dataset

_VARS = "vars"
_MAX_STEP = 2**63 - 1
# The first variable of an optimizer counts its steps (`Optimizer.__init__` in
# keras/src/optimizers/base_optimizer.py); one that scales the loss leaves that to its inner one.
_SLOT = re.compile(r"((?:\w+_)?optimizer)(/inner_optimizer)?/vars/0")
# Names are those of Keras 3 (adam/iteration), Keras 2 (iteration:0, Adam/iter:0) and older ones
# (training/Adam/iterations:0).
_LEGACY = re.compile(r"optimizer_weights/(?:.+/)?(?:iter|iterations?)(?:_\d+)?(?::0)?")


def full_names(datasets: Iterable[Dataset], labels: Mapping[str, str]) -> dict[bytes, str]:
    """Return the readable name of each variable that has one of its own, by key.

    In Keras 3 that is the names of its layers, from the outermost, and its number in the last:
    ``encoder/deep/0``. Which of a layer's variables has which number depends on its class, so it
    is not translated. Names that several variables would share are left out.
    """
    found = {
        item.key: name
        for item in datasets
        if (name := item.name or _of_layers(item.key.decode("utf-8", "replace"), labels))
    }
    counts = Counter(found.values())
    return {key: name for key, name in found.items() if counts[name] == 1}


def _of_layers(path: str, labels: Mapping[str, str]) -> str | None:
    parts = path.split("/")
    if len(parts) < 2 or parts[-2] != _VARS:  # noqa: PLR2004 - vars and the number
        return None
    owner = parts[:-2]
    own = labels.get("/".join((*owner, _VARS)))
    if own is None:
        return None
    outer = ("/".join((*owner[:at], _VARS)) for at in range(1, len(owner)))
    return "/".join((*(labels[key] for key in outer if key in labels), own, parts[-1]))


def find_step(datasets: Iterable[Dataset]) -> tuple[int, str] | None:
    """Return how many steps the model's optimizer took, and the variable that says so.

    Where the model's own optimizer is not there, the others (``d_optimizer``, ``g_optimizer``)
    are asked; if they differ, none of them is taken.
    """
    values = {
        item.key.decode("utf-8", "replace"): item.value
        for item in datasets
        if item.value is not None and 0 <= item.value <= _MAX_STEP
    }
    slots: dict[str, str] = {}
    for path in sorted(values):
        if (match := _SLOT.fullmatch(path)) and (match[2] or match[1] not in slots):
            slots[match[1]] = path
    if "optimizer" in slots:
        return values[slots["optimizer"]], slots["optimizer"]
    paths = list(slots.values()) or [path for path in sorted(values) if _LEGACY.fullmatch(path)]
    if len({values[path] for path in paths}) == 1:
        return values[paths[0]], paths[0]
    return None
