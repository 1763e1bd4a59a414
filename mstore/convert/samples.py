"""Samples in a file, on their way from the conversion process."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mstore.convert import arrays
from mstore.convert.request import Sample

_TOLERANCE = "tolerance"


def write_samples(path: Path, samples: Mapping[str, Sample]) -> None:
    """Write the samples by signature."""
    groups: dict[str, Mapping[str, arrays.Array]] = {
        _TOLERANCE: {name: np.array(sample.tolerance) for name, sample in samples.items()}
    }
    for name, sample in samples.items():
        groups[f"feeds {name}"] = sample.feeds
        groups[f"outputs {name}"] = sample.outputs
    arrays.write(path, groups)


def read_samples(path: Path) -> dict[str, Sample]:
    """Return what ``write_samples`` wrote."""
    groups = arrays.read(path)
    return {
        name: Sample(groups[f"feeds {name}"], groups[f"outputs {name}"], float(tolerance))
        for name, tolerance in groups[_TOLERANCE].items()
    }
