"""Reads sharded Keras weights: ``model.weights.json`` and the HDF5 files that it lists.

The map names, for each group of variables, the files that hold them: ``{"metadata":
{"total_size"}, "weight_map": {"/layers/dense/vars": ["model_00000.weights.h5"]}}``
(``ShardedH5IOStore`` in keras/src/saving/saving_lib.py).
"""

import os
import re
from contextlib import ExitStack
from pathlib import Path

from mstore.disk import os_errors
from mstore.errors import DamagedFileError, InputError
from mstore.formats.files import damaged, open_regular, read_limited
from mstore.formats.hdf5 import Contents, read_all
from mstore.formats.keras_layout import Part, make_layout, whole
from mstore.formats.keras_members import parse_object
from mstore.formats.layout import Layout
from mstore.formats.windows import Window

MAX_MAP = 4 << 20
"""Bytes of a map of weights."""

MAX_SHARDS = 256
"""Files of one checkpoint, all of which are open at once."""

_SHARD = re.compile(r"(?P<base>.*)_[0-9]{5,}\.weights\.h5", re.DOTALL)
_MAX_SHOWN = 100


def read_shards(path: Path) -> Layout | None:
    """Return the layout of the weights that the map at ``path`` lists, None for another file.

    Raises:
        DamagedFileError: the map or a file that it lists is damaged, missing or incomplete.
        InputError: one has something that is not accepted.
        MissingExtraError: h5py is not installed.
        SystemIOError: the operating system refused.
    """
    weight_map = _weight_map(path)
    if weight_map is None:
        return None
    names = sorted({name for files in weight_map.values() for name in files})
    if len(names) > MAX_SHARDS:
        raise damaged(str(path), f"it lists {len(names)} files, more than {MAX_SHARDS}")
    prefix = path.with_name(_common(path, names))
    contents = _read_all(path, names)
    _check_complete(path, weight_map, contents)
    parts = [
        Part(_suffix(name, prefix), contents[name], 0, whole(path.with_name(name)))
        for name in names
    ]
    files = (*(part.suffix for part in parts), _suffix(path.name, prefix))
    return make_layout("weights-json", prefix, files, parts)


def map_of_shard(path: Path) -> Path | None:
    """Return the map that lists the file at ``path`` as one of its shards, None if there is none.

    Raises:
        DamagedFileError: there is a map, but it is damaged.
    """
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return None
    candidate = path.with_name(f"{match['base']}.weights.json")
    if not candidate.is_file():
        return None
    weight_map = _weight_map(candidate)
    listed = weight_map is not None and any(path.name in files for files in weight_map.values())
    return candidate if listed else None


def listed_shards(path: Path) -> list[str]:
    """Return the names of the files that the map at ``path`` lists, sorted.

    Raises:
        DamagedFileError: it is no such map, or damaged.
    """
    weight_map = _weight_map(path)
    if not weight_map:
        raise damaged(str(path), "it lists no files of weights")
    return sorted({name for files in weight_map.values() for name in files})


def _weight_map(path: Path) -> dict[str, list[str]] | None:
    # Other files may begin like this one, and be of any size and content.
    named = path.name.endswith("weights.json")
    with open_regular(path) as file, os_errors(f"cannot read {path}"):
        if not named and os.fstat(file.fileno()).st_size > MAX_MAP:
            return None
    try:
        found = parse_object(read_limited(path, MAX_MAP), str(path), "text")
    except DamagedFileError:
        if named:
            raise
        return None
    weight_map = found.get("weight_map")
    if not isinstance(weight_map, dict):
        return None
    return {key: _names(path, value) for key, value in weight_map.items()}


def _names(path: Path, value: object) -> list[str]:
    names = []
    for name in value if isinstance(value, list) else [value]:
        if not isinstance(name, str) or not _is_shard(name):
            raise damaged(str(path), f"it lists {_shown(str(name))}, which is no name of a shard")
        names.append(name)
    return names


def _is_shard(name: str) -> bool:
    plain = name.isprintable() and "/" not in name and "\\" not in name
    return plain and _SHARD.fullmatch(name) is not None


def _common(path: Path, names: list[str]) -> str:
    """Return what the names of the map and of all shards begin with."""
    if not names:
        raise InputError(f"{path} lists no weights", hint="save the model's weights again")
    # Keras drops ".weights" from the map's name wherever it stands in it, so this may be less
    # than the name before the ending.
    names = [path.name, *names]
    common = os.path.commonprefix(names).rstrip("._")  # noqa: RUF071 - letters, not directories
    if not common:
        raise InputError(
            f"{path} and the files that it lists have no beginning of their names in common",
            hint="save the weights under a name such as model.weights.json",
        )
    return common


def _suffix(name: str, prefix: Path) -> str:
    return name.removeprefix(prefix.name)


def _read_all(path: Path, names: list[str]) -> dict[str, Contents]:
    with ExitStack() as stack:
        windows = []
        for name in names:
            shard = path.with_name(name)
            if not shard.is_file():
                raise damaged(
                    str(shard),
                    "it is missing",
                    hint=f"copy all files that {path.name} lists beside it",
                )
            file = stack.enter_context(open_regular(shard))
            windows.append(Window.whole(file.fileno(), str(shard)))
        stack.enter_context(os_errors(f"cannot read {path}"))
        return dict(zip(names, read_all(windows), strict=True))


def _check_complete(
    path: Path, weight_map: dict[str, list[str]], contents: dict[str, Contents]
) -> None:
    """Check that each group of variables is in the files that the map gives for it."""
    groups = {
        name: {item.key.rpartition(b"/")[0] for item in found.datasets}
        for name, found in contents.items()
    }
    for group, names in weight_map.items():
        key = group.removeprefix("/").encode("utf-8", "surrogateescape")
        for name in names:
            if key not in groups[name]:
                raise damaged(
                    str(path.with_name(name)),
                    f"it does not hold {_shown(group)}, which {path.name} says it does",
                    hint=f"{path.name} and its shards are not of the same save; copy them again",
                )


def _shown(name: str) -> str:
    return ascii(name)[1:-1][:_MAX_SHOWN]
