"""OpenVINO's reader, which shares nothing with TensorFlow, gives the same outputs."""

from concurrent.futures import Future
from typing import Any

import numpy as np
import openvino
import pytest

from tests.tf.exporting import Exported
from tests.tf.kinds import DEFAULT, KINDS, Made

# What it cannot read, with a part of its message; and one that it computes otherwise.
UNSUPPORTED = {
    "adapted_columns": "HashTableV2",
    "texts_as_numbers": "HashTableV2",
    "texts_by_frequency": "HashTableV2",
    "texts_as_bags": "HashTableV2",
    "tables_from_files": "HashTableV2",
    "tables_that_change": "MutableHashTableV2",
    "serialized_examples": "ParseExampleV2",
    "ragged_inside": "StringSplitV2",
    "mixed_bfloat16": "unknown element type bf16",
    "modules_in_containers": "unknown element type boolean",
    "many_dtypes": "DT_COMPLEX64",
    "quantized_weights": "Not equal to tolerance",
}


def outputs(exported: Exported, feed: dict[str, Any]) -> dict[str, Any]:
    core = openvino.Core()
    # Its default on some processors is bfloat16.
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(exported.path), "CPU", options)
    found = compiled(feed)
    named = {name: found[port] for port in compiled.outputs for name in port.names}
    keys = exported.info.signatures[DEFAULT].outputs
    # An output that has the name of an input loses it there.
    return named if set(keys) <= set(named) else dict(zip(keys, found.values(), strict=True))


def compare(made: Made, exported: Exported) -> None:
    got = outputs(exported, made.feeds[DEFAULT])
    for key, live in made.live[DEFAULT].items():
        np.testing.assert_allclose(got[key], live, rtol=1e-4, atol=max(1e-4, made.tolerance))


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "several_signatures"])
def test_openvino_gives_what_the_live_model_gives(
    kind: str, kinds: "dict[str, Future[tuple[Made, Exported]]]"
) -> None:
    made, exported = kinds[kind].result()
    if kind not in UNSUPPORTED:
        compare(made, exported)
        return
    with pytest.raises((RuntimeError, AssertionError), match=UNSUPPORTED[kind]):
        compare(made, exported)
