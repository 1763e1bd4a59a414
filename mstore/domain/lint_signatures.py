"""Rules about signatures: what REST and batching can carry.

The server's rules: tensorflow_serving/util/json_tensor.cc, model_servers/http_rest_api_handler.cc
and batching/batching_util.cc.
"""

from collections.abc import Iterator, Mapping

from mstore.domain.lint import LintFinding, finding
from mstore.domain.signatures import Signature, TensorSpec

DEFAULT_SIGNATURE = "serving_default"
"""The signature of a request that names none."""

REST_DTYPES = frozenset(
    {
        "bool",
        "float32",
        "float64",
        "int16",
        "int32",
        "int64",
        "int8",
        "string",
        "uint16",
        "uint32",
        "uint64",
        "uint8",
    }
)
"""The element types that the server can write as JSON and read from it."""

_BINARY_KEY = "b64"


def lint_signatures(signatures: Mapping[str, Signature]) -> Iterator[LintFinding]:
    """Yield what speaks against serving by these signatures."""
    if not signatures:
        yield finding(
            "no-signatures",
            "saved_model.pb",
            "it has no signature, so that there is nothing a request could call",
            "save it with signatures={'serving_default': ...}",
        )
    elif DEFAULT_SIGNATURE not in signatures:
        names = ", ".join(sorted(signatures)[:5])
        yield finding(
            "no-default-signature",
            DEFAULT_SIGNATURE,
            f"there is no signature of this name (there is: {names}), and a request that names "
            "no signature fails",
            f"name one signature {DEFAULT_SIGNATURE}, or name the signature in each request",
        )
    for name, signature in sorted(signatures.items()):
        yield from _signature(name, signature)


def _signature(name: str, signature: Signature) -> Iterator[LintFinding]:
    yield from _names(name, signature)
    for direction, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for key, spec in sorted(specs.items()):
            if spec.dtype not in REST_DTYPES:
                yield finding(
                    "rest-dtype",
                    f"{name}: {key}",
                    f"the {direction} is {spec.dtype}, which REST cannot carry; gRPC can",
                    "cast it to float32 in the signature"
                    if "float" in spec.dtype or spec.dtype == "half"
                    else "use a dtype that JSON has, or serve it by gRPC alone",
                )
    if not signature.inputs:
        yield finding(
            "no-inputs",
            name,
            "it has no inputs: REST and batching refuse it, gRPC runs it",
            "give it an input, if only one whose length is that of the batch",
        )
    yield from _inputs(name, signature.inputs)
    yield from _outputs(name, signature)


def _names(name: str, signature: Signature) -> Iterator[LintFinding]:
    keys = [("signature", name)]
    keys += [("input", key) for key in sorted(signature.inputs)]
    keys += [("output", key) for key in sorted(signature.outputs)]
    for what, key in keys:
        why = ""
        if not key:
            why = f"the {what} has an empty name, which no request can give"
        elif what == "input" and key == _BINARY_KEY:
            why = f"REST takes an object with the one key {key!r} for binary data"
        elif not key.isprintable() or "\\" in key:
            why = f"the name of the {what} has characters that cannot be typed"
        if why:
            cure = "rename it to letters, digits and underscores"
            yield finding(
                "name-in-rest", name if what == "signature" else f"{name}: {key}", why, cure
            )


def _inputs(name: str, inputs: Mapping[str, TensorSpec]) -> Iterator[LintFinding]:
    for key, spec in sorted(inputs.items()):
        if spec.shape is None:
            continue
        if not spec.shape:
            yield finding(
                "scalar-input",
                f"{name}: {key}",
                "the input is a scalar: REST's row format and batching need a first dimension for "
                "the batch",
                "give it the shape [None]; REST's columnar format works meanwhile",
            )
        elif spec.shape[0] is not None:
            yield finding(
                "fixed-batch",
                f"{name}: {key}",
                f"the input's first dimension is fixed to {spec.shape[0]}: a request of any other "
                "length fails, and batching cannot join requests",
                "export it with None as the first dimension",
            )


def _outputs(name: str, signature: Signature) -> Iterator[LintFinding]:
    shapes = {k: s.shape for k, s in sorted(signature.outputs.items()) if s.shape is not None}
    scalars = [key for key, shape in shapes.items() if not shape]
    if scalars:
        yield finding(
            "no-common-batch",
            f"{name}: {scalars[0]}",
            f"{_count(scalars, 'output')} a scalar: REST's row format and batching refuse the "
            "whole response",
            "return one value for each row; REST's columnar format works meanwhile",
        )
    lengths = {key: shape[0] for key, shape in shapes.items() if shape}
    given = [s.shape[0] for s in signature.inputs.values() if s.shape]
    fixed = [key for key, length in lengths.items() if length is not None and length not in given]
    if fixed:
        refusing = (
            "batching" if len(set(lengths.values())) == 1 else "batching and REST's row format"
        )
        yield finding(
            "no-common-batch",
            f"{name}: {fixed[0]}",
            f"{_count(fixed, 'output')} always {lengths[fixed[0]]} long, whatever the length of "
            f"the batch: {refusing} cannot tell which part belongs to which request",
            "return one row for each row of the input; REST's columnar format works meanwhile",
        )


def _count(keys: list[str], what: str) -> str:
    return f"the {what} is" if len(keys) == 1 else f"{len(keys)} {what}s are each"
