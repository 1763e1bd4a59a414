"""Git for TensorFlow checkpoints and the SavedModels they become.

::

    store = mstore.Store.open(".")
    checkpoint = store.add("ckpts/ckpt-1200", model="mnist", metrics={"val_loss": 0.11})
    version = store.export("mnist@best", builder="model.py:build", to="/srv/models/mnist")
    report = store.audit("/srv/models/mnist")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mstore.domain.lint import LintFinding, LintReport, VersionLint
    from mstore.domain.records import (
        AuditReport,
        Checkout,
        Checkpoint,
        Deployment,
        Diff,
        Event,
        Finding,
        TensorChange,
        Version,
        VersionAudit,
    )
    from mstore.domain.signatures import Signature, TensorSpec
    from mstore.domain.upkeep import (
        Damage,
        Mended,
        PruneReport,
        RebuildReport,
        RepairReport,
        VerifyReport,
    )
    from mstore.errors import Error
    from mstore.servable import Servable
    from mstore.store import Store

__version__ = "0.1.0"

__all__ = [
    "AuditReport",
    "Checkout",
    "Checkpoint",
    "Damage",
    "Deployment",
    "Diff",
    "Error",
    "Event",
    "Finding",
    "LintFinding",
    "LintReport",
    "Mended",
    "PruneReport",
    "RebuildReport",
    "RepairReport",
    "Servable",
    "Signature",
    "Store",
    "TensorChange",
    "TensorSpec",
    "VerifyReport",
    "Version",
    "VersionAudit",
    "VersionLint",
]

# A builder imports mstore for `Servable` alone and `mstore --help` for nothing: what is heavy is
# loaded when it is first asked for (PEP 562).
_HOMES = {
    "Damage": "mstore.domain.upkeep",
    "Error": "mstore.errors",
    "LintFinding": "mstore.domain.lint",
    "LintReport": "mstore.domain.lint",
    "Mended": "mstore.domain.upkeep",
    "PruneReport": "mstore.domain.upkeep",
    "RebuildReport": "mstore.domain.upkeep",
    "RepairReport": "mstore.domain.upkeep",
    "Servable": "mstore.servable",
    "Signature": "mstore.domain.signatures",
    "Store": "mstore.store",
    "TensorSpec": "mstore.domain.signatures",
    "VerifyReport": "mstore.domain.upkeep",
    "VersionLint": "mstore.domain.lint",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'mstore' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "mstore.domain.records")), name)
    globals()[name] = value
    return value
