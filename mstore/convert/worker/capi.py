"""TensorFlow's C API through ctypes: the loader that TensorFlow Serving uses.

Nothing of Python's TensorFlow is imported; the shared libraries of its package are opened. Source:
tensorflow/c/c_api.h, tf_tensor.h, tf_tstring.h and tf_datatype.h.
"""

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mstore.domain.tensors import DTYPES

Array = npt.NDArray[Any]

_TSTRING_SIZE = 24  # sizeof(TF_TString) on 64-bit systems
_STRING = 7
_NUMBERS = {name: number for number, (name, _) in DTYPES.items()}
_BFLOAT16 = "bfloat16"
_HALF_WORD = 16
# Types that numpy does not have travel as the integers of the same width.
_CARRIERS = {"bfloat16": "uint16", "qint8": "int8", "quint8": "uint8", "qint32": "int32"}


class StatusError(Exception):
    """A call returned a status other than OK.

    Attributes:
        code: number of the status (``TF_Code``).
        text: TensorFlow's message.
    """

    def __init__(self, code: int, text: str) -> None:
        """Make the error from the status."""
        super().__init__(text)
        self.code = code
        self.text = text


class _Buffer(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))


class _Output(ctypes.Structure):
    _fields_ = (("operation", c_void_p), ("index", c_int))


# function -> result and argument types
_POINTERS = {
    "TF_NewStatus": (c_void_p,),
    "TF_Message": (c_char_p, c_void_p),
    "TF_GetCode": (c_int, c_void_p),
    "TF_NewGraph": (c_void_p,),
    "TF_NewSessionOptions": (c_void_p,),
    "TF_SetConfig": (None, c_void_p, c_void_p, c_size_t, c_void_p),
    "TF_NewBuffer": (ctypes.POINTER(_Buffer),),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        c_void_p,
        c_void_p,
        c_char_p,
        ctypes.POINTER(c_char_p),
        c_int,
        c_void_p,
        ctypes.POINTER(_Buffer),
        c_void_p,
    ),
    "TF_GraphOperationByName": (c_void_p, c_void_p, c_char_p),
    "TF_AllocateTensor": (c_void_p, c_int, ctypes.POINTER(c_int64), c_int, c_size_t),
    "TF_DeleteTensor": (None, c_void_p),
    "TF_TensorType": (c_int, c_void_p),
    "TF_NumDims": (c_int, c_void_p),
    "TF_Dim": (c_int64, c_void_p, c_int),
    "TF_TensorByteSize": (c_size_t, c_void_p),
    "TF_TensorData": (c_void_p, c_void_p),
    "TF_StringInit": (None, c_void_p),
    "TF_StringCopy": (None, c_void_p, c_char_p, c_size_t),
    "TF_StringGetDataPointer": (c_void_p, c_void_p),
    "TF_StringGetSize": (c_size_t, c_void_p),
    "TF_SessionRun": (
        None,
        c_void_p,
        c_void_p,
        ctypes.POINTER(_Output),
        ctypes.POINTER(c_void_p),
        c_int,
        ctypes.POINTER(_Output),
        ctypes.POINTER(c_void_p),
        c_int,
        c_void_p,
        c_int,
        c_void_p,
        c_void_p,
    ),
}


class Library:
    """The opened shared library, its functions typed, XLA compilation switched off."""

    def __init__(self, directory: Path) -> None:
        """Open the libraries of the TensorFlow installed in ``directory``.

        Raises:
            OSError: if a library is not there or does not load.
            AttributeError: if it lacks a function.
        """
        ctypes.CDLL(str(directory / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
        self._library = ctypes.CDLL(str(directory / "libtensorflow_cc.so.2"), ctypes.RTLD_GLOBAL)
        for name, (result, *arguments) in _POINTERS.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self.status = self._library.TF_NewStatus()
        # tensorflow::DisableXlaCompilation(), as main.cc of TensorFlow Serving calls it. Not part
        # of the C API, so a build may lack it.
        self.xla_disabled = hasattr(self._library, "_ZN10tensorflow21DisableXlaCompilationEv")
        if self.xla_disabled:
            self._library._ZN10tensorflow21DisableXlaCompilationEv()  # noqa: SLF001 - a C++ name

    def __getattr__(self, name: str) -> Any:
        """Return a function of the library."""
        return getattr(self._library, name)

    def check(self) -> None:
        """Raise what the last call left in the status.

        Raises:
            StatusError: if it is not OK.
        """
        code = int(self.TF_GetCode(self.status))
        if code != 0:
            text: bytes = self.TF_Message(self.status)
            raise StatusError(code, text.decode("utf-8", "replace"))


class Session:
    """A SavedModel as the C++ loader loaded it.

    Attributes:
        meta_graph: the serialized ``MetaGraphDef``.
    """

    def __init__(self, library: Library, directory: Path) -> None:
        """Load the SavedModel's graph for serving.

        Raises:
            StatusError: if the loader refuses it.
        """
        self._library = library
        self._graph = library.TF_NewGraph()
        options = library.TF_NewSessionOptions()
        tags = (c_char_p * 1)(b"serve")
        buffer = library.TF_NewBuffer()
        self._session = library.TF_LoadSessionFromSavedModel(
            options, None, str(directory).encode(), tags, 1, self._graph, buffer, library.status
        )
        library.check()
        self.meta_graph = ctypes.string_at(buffer.contents.data, buffer.contents.length)

    def run(self, feeds: Mapping[str, tuple[str, Array]], fetches: Sequence[str]) -> list[Array]:
        """Feed tensors by name (with their dtype) and return the fetched ones.

        Raises:
            StatusError: if the graph has no such tensor, or does not run.
        """
        library = self._library
        inputs = (_Output * len(feeds))(*(self._output(name) for name in feeds))
        values = (c_void_p * len(feeds))()
        outputs = (_Output * len(fetches))(*(self._output(name) for name in fetches))
        results = (c_void_p * len(fetches))()
        try:
            for index, (dtype, array) in enumerate(feeds.values()):
                values[index] = _to_tensor(library, dtype, array)
            library.TF_SessionRun(
                self._session,
                None,
                inputs,
                values,
                len(feeds),
                outputs,
                results,
                len(fetches),
                None,
                0,
                None,
                library.status,
            )
            library.check()
            return [_to_array(library, pointer) for pointer in results if pointer]
        finally:
            for pointer in (*values, *results):
                if pointer:
                    library.TF_DeleteTensor(pointer)

    def _output(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        pointer = self._library.TF_GraphOperationByName(self._graph, operation.encode())
        if not pointer:
            raise StatusError(5, f"the graph has no operation {operation}")
        return _Output(pointer, int(index or 0))


def _to_tensor(library: Library, dtype: str, array: Array) -> int:
    number = _NUMBERS[dtype]
    dims = (c_int64 * array.ndim)(*array.shape)
    size = _TSTRING_SIZE * array.size if number == _STRING else array.nbytes
    pointer: int = library.TF_AllocateTensor(number, dims, array.ndim, size)
    data = library.TF_TensorData(pointer)
    if number == _STRING:
        for index, item in enumerate(array.ravel()):
            text = item if isinstance(item, bytes) else str(item).encode()
            place = data + index * _TSTRING_SIZE
            library.TF_StringInit(place)
            library.TF_StringCopy(place, text, len(text))
    elif size:
        contiguous = np.ascontiguousarray(array)
        ctypes.memmove(data, contiguous.ctypes.data, size)
    return pointer


def _to_array(library: Library, pointer: int) -> Array:
    number = library.TF_TensorType(pointer)
    shape = [library.TF_Dim(pointer, axis) for axis in range(library.TF_NumDims(pointer))]
    data = library.TF_TensorData(pointer)
    if number == _STRING:
        count = int(np.prod(shape, dtype=np.int64))
        texts = np.empty(count, object)
        for index in range(count):
            place = data + index * _TSTRING_SIZE
            start = library.TF_StringGetDataPointer(place)
            texts[index] = ctypes.string_at(start, library.TF_StringGetSize(place))
        shaped: Array = texts.reshape(shape)
        return shaped
    raw = ctypes.string_at(data, library.TF_TensorByteSize(pointer)) if data else b""
    if DTYPES[number][0] == _BFLOAT16:
        bits = np.frombuffer(raw, np.uint16).astype(np.uint32) << _HALF_WORD
        wide: Array = bits.view(np.float32).reshape(shape)
        return wide
    array: Array = np.frombuffer(raw, carrier(DTYPES[number][0])).reshape(shape).copy()
    return array


def carried(dtype: str, array: Array) -> Array:
    """Return the array as the type that carries a TensorFlow type.

    Raises:
        StatusError: if none does.
    """
    if dtype == _BFLOAT16 and array.dtype.kind == "f":
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        rounded: Array = ((bits + 0x7FFF + ((bits >> _HALF_WORD) & 1)) >> _HALF_WORD).astype(
            np.uint16
        )
        return rounded
    return array.astype(carrier(dtype), copy=False)


def carrier(dtype: str) -> np.dtype[Any]:
    """Return the numpy type that carries elements of a TensorFlow type.

    Raises:
        StatusError: if none does.
    """
    try:
        return np.dtype(_CARRIERS.get(dtype, dtype))
    except TypeError as exc:
        raise StatusError(12, f"tensors of the type {dtype} cannot be passed") from exc
