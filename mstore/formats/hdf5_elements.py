"""What the datasets and attributes of an HDF5 file are; only `mstore.formats.hdf5_child` uses it.

The classes of elements are those of https://docs.hdfgroup.org/hdf5/v1_14/group___h5_t.html.
"""

import math
from collections.abc import Iterator
from typing import Any

from h5py import AttributeManager, h5a, h5d, h5s, h5t

from mstore.formats.hdf5_blocks import MAX_CHUNK, read_block

FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})
"""Filters that are read: those of HDF5 itself (deflate, shuffle, fletcher32, szip, n-bit,
scale-offset) and LZF, which h5py has built in. All others need a plug-in."""

_MAX_LABEL = 4096
_MAX_NAMES = 4 << 20
_BFLOAT16 = 2
_COMPLEX128 = 16
_NUMBERS = frozenset({h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.COMPOUND})


class Refused(Exception):  # noqa: N818 - the file is sound but has what is not accepted
    """The file has something that is not accepted."""


def describe(item: h5d.DatasetID, path: str) -> dict[str, Any] | None:
    """Return what a dataset is and where its bytes stand, None if it holds no numbers.

    Raises:
        Refused: its data is in other files, or needs a plug-in or much memory to be unpacked.
    """
    creation = item.get_create_plist()
    layout = creation.get_layout()
    # Before the shape: that of a virtual dataset is found by opening the files it names.
    if layout == h5d.VIRTUAL:
        raise Refused(f"{path} is a virtual dataset, put together from other files")
    if creation.get_external_count():
        raise Refused(f"{path} keeps its data in another file")
    element = _element(item)
    space = item.get_space()
    if element is None or space.get_simple_extent_type() == h5s.NULL:
        return None
    dtype, itemsize, as_is = element
    shape = [int(length) for length in space.get_simple_extent_dims()]
    size = math.prod(shape) * itemsize
    offset = 0 if size == 0 else None
    if size and layout == h5d.CONTIGUOUS and as_is:
        offset = item.get_offset()
        if offset is not None and item.get_storage_size() != size:
            raise ValueError(f"{path} has another length than its shape says")
    elif size and layout == h5d.CHUNKED:
        _check_chunks(creation, path, itemsize)
    value = None
    if not shape and dtype.lstrip("u").startswith("int"):
        value = int.from_bytes(read_block(item, (), ()), "little", signed=dtype[0] == "i")
    return {
        "path": path,
        "dtype": dtype,
        "shape": shape,
        "offset": offset,
        "size": size,
        "value": value,
    }


def _check_chunks(creation: Any, path: str, itemsize: int) -> None:
    for number in range(creation.get_nfilters()):
        code = creation.get_filter(number)[0]
        if code not in FILTERS:
            raise Refused(f"{path} is compressed by filter {code}, which needs a plug-in")
    if math.prod(creation.get_chunk()) * itemsize > MAX_CHUNK:
        raise Refused(f"{path} is stored in chunks of more than {MAX_CHUNK >> 20} MiB")


def _element(item: h5d.DatasetID) -> tuple[str, int, bool] | None:
    """Return dtype, bytes of an element, and whether it is stored as in a TensorBundle."""
    stored = item.get_type()
    if stored.get_class() == h5t.OPAQUE:
        # Keras writes bfloat16, which h5py does not know, as two opaque bytes and says so beside
        # (H5IOStore in keras/src/saving/saving_lib.py).
        known = stored.get_size() == _BFLOAT16 and read_text(item, b"dtype") == "bfloat16"
        return ("bfloat16", _BFLOAT16, True) if known else None
    if stored.get_class() not in _NUMBERS:
        return None
    try:
        dtype = stored.dtype
    except (TypeError, ValueError):
        return None  # an arrangement of bits that numpy has no name for
    if dtype.kind not in "iufbc" or dtype.itemsize > _COMPLEX128 or h5t.check_enum_dtype(dtype):
        return None
    as_is = h5t.py_create(dtype.newbyteorder("<"), logical=True).equal(stored)
    return dtype.name, dtype.itemsize, as_is


def read_text(item: Any, name: bytes) -> str | None:
    """Return a short text attribute, None if it is not there or something else."""
    if not h5a.exists(item, name) or _attribute_size(item, name) > _MAX_LABEL:
        return None
    value = AttributeManager(_Owner(item))[name.decode()]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and len(value) <= _MAX_LABEL else None


def _attribute_size(item: Any, name: bytes) -> int:
    attribute = h5a.open(item, name)
    points: int = attribute.get_space().get_simple_extent_npoints()
    return points * int(attribute.get_type().get_size())


def weight_names(group: Any) -> Iterator[str]:
    """Yield the names that legacy files list for a group, which Keras splits where they are long.

    Raises:
        Refused: the list is longer than any sound one.
    """
    parts = [b"weight_names"]
    if not h5a.exists(group, parts[0]):
        parts = []
        while h5a.exists(group, b"weight_names%d" % len(parts)):
            parts.append(b"weight_names%d" % len(parts))
    for part in parts:
        if _attribute_size(group, part) > _MAX_NAMES:
            raise Refused("its list of weight names is too long")
        value = AttributeManager(_Owner(group))[part.decode()]
        kind = getattr(getattr(value, "dtype", None), "kind", "")
        for name in value.ravel().tolist() if kind in {"S", "O", "U"} else ():
            text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
            if isinstance(text, str):
                yield text


class _Owner:
    """What h5py's attributes want to know of the object that they belong to."""

    def __init__(self, item: Any) -> None:
        self.id = item
