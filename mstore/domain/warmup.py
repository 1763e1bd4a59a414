"""The requests that a server replays when it loads a version."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

WARMUP_PATH = "assets.extra/tf_serving_warmup_requests"
"""Where TensorFlow Serving looks for them, in the version's directory."""

MAX_WARMUP_RECORDS = 1000
"""A server refuses a version with more (servables/tensorflow/saved_model_warmup_util.h)."""

WarmupKind = Literal["classify", "regress", "multi-inference", "predict", "unsupported", "none"]


@dataclass(frozen=True, slots=True)
class WarmupRequest:
    """One record of the file.

    Attributes:
        kind: what is asked; ``unsupported`` is what no server replays, ``none`` no request at all.
        signature: name of the signature; empty for the default.
        inputs: of a prediction: input key to dtype; None for one TensorFlow does not have.
    """

    kind: WarmupKind
    signature: str = ""
    inputs: Mapping[str, str | None] | None = None
