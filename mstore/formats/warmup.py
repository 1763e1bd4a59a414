"""Warmup requests of a version: a TFRecord file of ``tensorflow.serving.PredictionLog``.

A record is its length (8 bytes), the length's masked CRC32C, the bytes, and their masked CRC32C
(tensorflow/core/lib/io/record_reader.h). The messages are in
tensorflow_serving/apis/{prediction_log,predict,model}.proto.
"""

import struct
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from mstore.domain.tensors import DTYPES
from mstore.domain.warmup import MAX_WARMUP_RECORDS, WarmupKind, WarmupRequest
from mstore.errors import DamagedFileError
from mstore.formats import wire
from mstore.formats.crc import RunningCrc, masked_crc
from mstore.formats.file_view import FileView
from mstore.formats.files import damaged, open_regular

_AGAIN = "write it again with tf.io.TFRecordWriter, uncompressed, or remove it"
_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")
_MAX_FIELDS = 1 << 22
_MAX_TEXT = 1 << 12
_KINDS: Mapping[int, WarmupKind] = {
    2: "classify",
    3: "regress",
    4: "multi-inference",
    5: "unsupported",  # session_run_log
    6: "predict",
    7: "unsupported",  # predict_streamed_log
}


def read_warmup(path: Path) -> tuple[WarmupRequest, ...]:
    """Return the requests in a warmup file, at most one more than a server takes.

    Raises:
        InputError: there is no such file.
        DamagedFileError: it is not a TFRecord file of such messages, or a record is damaged.
        SystemIOError: the operating system refused.
    """
    with open_regular(path) as file:
        budget = wire.Budget(_MAX_FIELDS)
        records = islice(_records(FileView(file, str(path)), str(path)), MAX_WARMUP_RECORDS + 1)
        return tuple(_request(record, budget, str(path)) for record in records)


def record(data: bytes) -> bytes:
    """Return one record of a TFRecord file."""
    head = struct.pack("<Q", len(data))
    return b"".join((head, _TAIL.pack(masked_crc(head)), data, _TAIL.pack(masked_crc(data))))


def _records(data: FileView, path: str) -> Iterator[FileView]:
    position = number = 0
    while position < len(data):
        where = f"record {number}"
        if len(data) - position < _HEAD.size + _TAIL.size:
            raise _bad(path, f"{where} is cut short")
        head = bytes(data[position : position + _HEAD.size])
        size, crc = _HEAD.unpack(head)
        if masked_crc(head[:8]) != crc:
            raise _bad(path, f"the length of {where} does not have its CRC32C; is it a TFRecord?")
        position += _HEAD.size
        if size > len(data) - position - _TAIL.size:
            raise _bad(path, f"{where} is cut short")
        record = data[position : position + size]
        position += size
        (crc,) = _TAIL.unpack(bytes(data[position : position + _TAIL.size]))
        if _crc(record) != crc:
            raise _bad(path, f"{where} does not have its CRC32C")
        position += _TAIL.size
        number += 1
        yield record


def _bad(path: str, what: str) -> DamagedFileError:
    return damaged(path, what, hint=_AGAIN)


def _crc(record: FileView) -> int:
    check = RunningCrc()
    for piece in record.pieces():
        check.update(piece)
    return check.value()


def _request(record: FileView, budget: wire.Budget, path: str) -> WarmupRequest:
    request = WarmupRequest("none")
    for number, log in wire.messages(record, set(_KINDS), budget, path=path):
        kind = _KINDS[number]
        request = WarmupRequest(kind)
        if kind != "predict":
            continue
        for _, part in wire.messages(log, {1}, budget, path=path):
            request = _predict(part, budget, path)
    return request


def _predict(data: FileView, budget: wire.Budget, path: str) -> WarmupRequest:
    signature = ""
    inputs: dict[str, str | None] = {}
    for number, part in wire.messages(data, {1, 2}, budget, path=path):
        if number == 1:  # model_spec
            for _, name in wire.messages(part, {3}, budget, path=path):
                signature = _text(name, path)
        else:
            key, dtype = _input(part, budget, path)
            inputs[key] = dtype
            if len(inputs) > _MAX_TEXT:
                raise _bad(path, "a request has more inputs than any signature")
    return WarmupRequest("predict", signature, inputs)


def _input(entry: FileView, budget: wire.Budget, path: str) -> tuple[str, str | None]:
    key, dtype = "", None
    for number, part in wire.messages(entry, {1, 2}, budget, path=path):
        if number == 1:
            key = _text(part, path)
            continue
        for field, value in wire.fields(part, budget, path=path):
            if field == 1 and isinstance(value, int):
                dtype = DTYPES.get(value, (None, 0))[0]
    return key, dtype


def _text(data: FileView, path: str) -> str:
    if len(data) > _MAX_TEXT:
        raise _bad(path, "a name in a request is longer than any sound one")
    return bytes(data).decode("utf-8", "backslashreplace")
