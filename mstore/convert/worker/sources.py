"""What the conversion needs to know of where a model and its weights come from.

A strategy for each kind of checkpoint makes the model and restores it; all that follows (trace,
checks, saving) is the same for every kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mstore.convert.worker.constants import Snapshot
from mstore.convert.worker.preparing import Prepared

AVERAGES_KEPT = (
    "the optimizer keeps moving averages of the weights (use_ema); the weights themselves are "
    "exported, not their averages"
)
"""Warning about an optimizer whose averages are no weights of the model."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What the variables of a model were restored from.

    Attributes:
        sources: identity of each raw variable to the checkpoint's key.
        before: what the variables held before the restore.
        tables: identity of each mutable table to its parts: name to the checkpoint's key.
        faults: identity of a variable without a source to why it has none, where that is known.
        root: dotted path of the model in the checkpoint; ``""`` is the checkpoint's root.
        unused: keys of weights in the checkpoint that the model does not have.
        warnings: for the user.
    """

    sources: Mapping[int, str]
    before: Snapshot
    tables: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    faults: Mapping[int, str] = field(default_factory=dict)
    root: str = ""
    unused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Source(Protocol):
    """Makes and restores the model of one checkpoint.

    Attributes:
        hint: what to do about a variable that the checkpoint does not hold.
    """

    hint: str

    def build(self) -> Prepared:
        """Make the model, with all its layers built."""

    def restore(self, prepared: Prepared) -> Restored:
        """Give the model the checkpoint's values.

        Raises:
            ProofError: if the model is not the one that the checkpoint holds.
        """

    def put_back(self) -> None:
        """Give the variables of the restored model the checkpoint's values once more."""

    def build_again(self, taken: set[int]) -> Prepared:
        """Make the model anew, without the variables whose identities are ``taken``."""

    def restore_again(self, prepared: Prepared) -> None:
        """Give another build of the restored model the checkpoint's values."""

    def environment(self) -> Mapping[str, str]:
        """Return versions of what the strategy used besides TensorFlow and Keras."""
