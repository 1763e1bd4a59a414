"""Trains, saves, exports and compares: what the export tests share."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mstore import Servable
from mstore.convert.check import check
from mstore.convert.fingerprint import make_reproducible
from mstore.convert.proof import ProvenVariable, prove
from mstore.convert.request import TraceRequest, TraceResult
from mstore.convert.trace import trace
from mstore.formats.saved_model import SavedModelInfo, read_saved_model
from mstore.formats.tensor_bundle import BundleFiles

BUILDERS = Path(__file__).parent / "builders"
TOLERANCE = 1e-6
LIMIT = 180.0
KERAS = tuple(int(part) for part in keras.__version__.split(".")[:2])
"""Of older releases, a few have faults of their own that tests must step round."""


def load(name: str) -> ModuleType:
    """Import a file of builders as training code would."""
    spec = importlib.util.spec_from_file_location(f"training_{name}", BUILDERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Exported:
    """What an export gave."""

    path: Path
    result: TraceResult
    proven: Sequence[ProvenVariable]
    info: SavedModelInfo

    def serve(self, signature: str = "serving_default", **feed: Any) -> dict[str, Any]:
        """Run a signature through the C++ loader."""
        chosen = {signature: self.info.signatures[signature]}
        outputs = check(self.path, chosen, feeds={signature: feed}, timeout=LIMIT)
        return outputs[signature]


def export(
    prefix: Path,
    output: Path,
    builder: str,
    *,
    checked: bool = True,
    trace: Callable[..., TraceResult] = trace,
    **options: Any,
) -> Exported:
    """Trace, prove and check; raise what they raise."""
    if builder.partition(":")[0].endswith(".py") and not builder.startswith("/"):
        builder = f"{BUILDERS}/{builder}"
    options.setdefault("search_path", output.parent)
    timeout = options.pop("timeout", LIMIT)
    request = TraceRequest(prefix, output, builder, **options)
    result = trace(request, timeout=timeout)
    make_reproducible(output)
    proven = prove(
        BundleFiles(prefix),
        output,
        result.sources,
        names=result.names,
        allow_unrestored=request.allow_unrestored,
    )
    info = read_saved_model(output)
    if checked:
        check(output, info.signatures, dims=result.dims, samples=result.samples, timeout=LIMIT)
    return Exported(output, result, proven, info)


def train(model: Any, call: Callable[[], Any], optimizer: Any = None, steps: int = 3) -> Any:
    """Take real training steps, so that no weight keeps its initial value."""
    variables = list(model.trainable_variables)
    optimizer = optimizer or keras.optimizers.Adam(0.05)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            outputs = keras.tree.flatten(call())
            loss = sum(
                tf.reduce_mean((tf.cast(y, tf.float32) - 0.7) ** 2)
                for y in outputs
                if y.dtype.is_floating
            )
        if not variables:  # built by the first call
            variables = list(model.trainable_variables)
        gradients = tape.gradient(loss, variables)
        pairs = [
            (tf.zeros_like(v) if g is None else g, v)
            for g, v in zip(gradients, variables, strict=True)
        ]
        optimizer.apply_gradients(pairs)
    for index, variable in enumerate(model.variables):
        if "seed" not in variable.name and tf.as_dtype(variable.dtype).is_floating:
            variable.assign(variable + 0.01 * (index + 1))
    return optimizer


def largest_difference(got: Mapping[str, Any], live: Mapping[str, Any]) -> float:
    """Return the largest difference between two sets of named outputs."""
    assert set(got) == set(live)
    worst = 0.0
    for key, value in live.items():
        expected = np.asarray(value)
        assert got[key].shape == expected.shape, key
        if expected.dtype.kind in "OSU":
            assert got[key].tolist() == expected.tolist(), key
        else:
            gap = np.abs(got[key].astype("float64") - expected.astype("float64"))
            worst = max(worst, float(gap.max(initial=0.0)))
    return worst


def model_of(built: Any) -> Any:
    """Return the model that a builder returned."""
    return built.model if isinstance(built, Servable) else built
