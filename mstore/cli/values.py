"""Values of options: ``k=v`` pairs, metrics, input specifications."""

import re
from collections.abc import Mapping, Sequence

from mstore.convert.meta_request import is_tensor, parse_tensor
from mstore.domain.signatures import TensorSpec
from mstore.domain.tensors import DTYPES
from mstore.errors import UsageError

_INPUT = re.compile(r"(?P<name>[^=\s]+)=(?P<dtype>\w+)\[(?P<dims>[^\[\]]*)\]")
_DIMENSION = re.compile(r"[0-9]{1,18}", re.ASCII)
_DTYPE_NAMES = frozenset(name for name, _ in DTYPES.values())


def parse_pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Return ``k=v`` texts as a mapping.

    Raises:
        UsageError: a text has no ``=`` or no name, or a name comes twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {text!r} is not NAME=VALUE")
        if name in pairs:
            raise UsageError(f"{option} gives {name!r} twice")
        pairs[name] = value
    return pairs


def parse_metrics(texts: Sequence[str]) -> dict[str, float]:
    """Return ``--metric`` texts as numbers by name.

    Raises:
        UsageError: a text is no pair or its value no number.
    """
    return {name: _number(name, value) for name, value in parse_pairs("--metric", texts).items()}


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(
            f"--metric {name}={text} is not a number", hint="write --metric val_loss=0.31"
        ) from error


def parse_inputs(texts: Sequence[str]) -> Mapping[str, TensorSpec | str]:
    """Return ``--input`` texts as specifications by name.

    Tensors of a graph stay texts: ``NAME=OP:INDEX`` for what is fed, ``OP:INDEX=VALUE`` for what
    is fixed.

    >>> parse_inputs(["x=float32[?,10]"])
    {'x': TensorSpec(dtype='float32', shape=(None, 10))}
    >>> parse_inputs(["x=images:0", "is_training:0=false"])
    {'x': 'images:0', 'is_training:0': 'false'}

    Raises:
        UsageError: a text has none of these forms, the dtype is unknown, or a name comes twice.
    """
    specs: dict[str, TensorSpec | str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name and value and (is_tensor(name) or is_tensor(value)):
            if name in specs:
                raise UsageError(f"--input gives {name!r} twice")
            specs[name] = value
            continue
        match = _INPUT.fullmatch(text)
        if match is None:
            raise UsageError(f"--input {text!r} is not NAME=DTYPE[DIM,...]", hint=_INPUT_HINT)
        if match["dtype"] not in _DTYPE_NAMES:
            raise UsageError(f"--input {text!r}: TensorFlow has no dtype {match['dtype']!r}")
        if match["name"] in specs:
            raise UsageError(f"--input gives {match['name']!r} twice")
        specs[match["name"]] = TensorSpec(match["dtype"], _shape(match["dims"], text))
    return specs


def parse_outputs(texts: Sequence[str]) -> Mapping[str, str]:
    """Return ``--output`` texts as tensors of a graph by name.

    Raises:
        UsageError: a text is not ``NAME=OP:INDEX``, or a name comes twice.
    """
    tensors: dict[str, str] = {}
    for text in texts:
        name, tensor = parse_tensor("--output", text)
        if name in tensors:
            raise UsageError(f"--output gives {name!r} twice")
        tensors[name] = tensor
    return tensors


_INPUT_HINT = "write --input 'x=float32[?,10]', with ? for a dimension that is open"


def _shape(text: str, whole: str) -> tuple[int | None, ...] | None:
    if text == "...":
        return None
    dims: list[int | None] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        if part in {"?", "None", "-1"}:
            dims.append(None)
        elif _DIMENSION.fullmatch(part):
            dims.append(int(part))
        else:
            raise UsageError(f"--input {whole!r}: {part!r} is no dimension", hint=_INPUT_HINT)
    return tuple(dims)


def subset_of(text: str | None) -> tuple[int, int]:
    """Return ``N/T`` as two numbers; all of it where nothing is given.

    Raises:
        UsageError: it is no such thing.
    """
    if text is None:
        return 1, 1
    part, slash, total = text.partition("/")
    if not slash or not (part.isdecimal() and total.isdecimal()):
        raise UsageError(f"--read-data-subset takes N/T, 1/7 say, not {text}")
    return int(part), int(total)
