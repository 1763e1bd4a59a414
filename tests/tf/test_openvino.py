"""OpenVINO's reader, which shares nothing with TensorFlow, gives the same outputs."""

from concurrent.futures import Future
from typing import Any

import numpy as np
import openvino
import pytest

from tests.tf.exporting import Exported
from tests.tf.kinds import DEFAULT, KINDS, Made

# What it cannot read or run, with a part of its message.
UNSUPPORTED: dict[str, str] = {}


def outputs(exported: Exported, feed: dict[str, Any]) -> dict[str, Any]:
    core = openvino.Core()
    model = core.read_model(exported.path)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    # It knows a signature's tensors by their names in the signature.
    found = compiled(feed)
    return {name: found[port] for port in compiled.outputs for name in port.names}


def numeric(made: Made) -> bool:
    arrays = [*made.feeds[DEFAULT].values(), *made.live[DEFAULT].values()]
    return all(np.asarray(array).dtype.kind in "fiub" for array in arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_openvino_gives_what_the_live_model_gives(
    kind: str, kinds: "dict[str, Future[tuple[Made, Exported]]]"
) -> None:
    made, exported = kinds[kind].result()
    if DEFAULT not in made.feeds:
        pytest.skip("no default signature was recorded")
    if kind in UNSUPPORTED:
        with pytest.raises(Exception, match=UNSUPPORTED[kind]):
            outputs(exported, made.feeds[DEFAULT])
        return
    got = outputs(exported, made.feeds[DEFAULT])
    for key, live in made.live[DEFAULT].items():
        np.testing.assert_allclose(got[key], live, rtol=1e-4, atol=max(1e-4, made.tolerance))
