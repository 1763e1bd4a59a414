"""A model out of a file that Keras wrote, or from a builder with the weights of such a file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py

from mstore.convert.request import TraceRequest
from mstore.convert.worker.architecture import Architecture
from mstore.convert.worker.constants import Snapshot
from mstore.convert.worker.dialects import environment
from mstore.convert.worker.dyeing import Landed, find_sources
from mstore.convert.worker.keras_staging import Staged, stage
from mstore.convert.worker.live import Weight, all_weights, known_weights
from mstore.convert.worker.loading import users_code
from mstore.convert.worker.locating import listed
from mstore.convert.worker.preparing import Prepared, prepare
from mstore.convert.worker.restoring import refresh_derived
from mstore.convert.worker.sources import AVERAGES_KEPT, Restored
from mstore.convert.worker.weights_files import Dataset, list_datasets, read, read_from
from mstore.errors import InputError, ProofError

_MIXED = " was loaded, but is no plain copy of one dataset"
_SEED = "seed_generator"
_COUNTERS = frozenset({"int32", "int64", "uint32", "uint64"})


class KerasFile:
    """The strategy for files of Keras: Keras loads them, and dyed copies show what went where."""

    hint = (
        "build the model as training built it, and save all of it with model.save() or "
        "model.save_weights(); or let them be with --allow-unrestored NAME"
    )

    def __init__(self, request: TraceRequest, scratch: Path) -> None:
        """Open the files.

        Raises:
            DamagedFileError: if a file is damaged or not of its format.
            InputError: if a file is not as Keras writes it.
        """
        self._request = request
        self._dyed = scratch / "dyed"
        for directory in (scratch / "real", self._dyed):
            directory.mkdir()
        self._staged: Staged = stage(request, scratch / "real")
        self._datasets = list_datasets(self._staged.shards)
        self._architecture = Architecture(request, self._staged)
        self._sources: dict[int, tuple[Weight, Dataset]] = {}

    def build(self) -> Prepared:
        """Make the model as the file says, or as the builder does."""
        with users_code("building the model", self._request):
            return prepare(self._architecture.make, self._request)

    def restore(self, prepared: Prepared) -> Restored:
        """Find out which dataset each variable is loaded from, then load the weights."""
        weights = known_weights(prepared.model)
        before = Snapshot(weights.values())
        landed = self._find_sources(prepared.model, weights.values(), before)
        self._require_same_model(prepared.model, landed)
        self._put(prepared.model)
        before.forget(weights[key].variable.numpy() for key in landed.sources)
        self._sources = {key: (weights[key], item) for key, item in landed.sources.items()}
        return Restored(
            sources={key: dataset.key for key, dataset in landed.sources.items()},
            before=before,
            faults=dict.fromkeys(landed.mixed, _MIXED),
            unused=tuple(dataset.key for dataset in self._unused(landed)),
            warnings=(*self._architecture.warnings, *_cautions(self._staged.config)),
        )

    def put_back(self) -> None:
        """Assign the datasets to the variables that they belong to."""
        for index, path in enumerate(self._staged.shards):
            with h5py.File(path, "r") as file:
                for weight, dataset in self._sources.values():
                    if dataset.file == index:
                        weight.variable.assign(read(file, dataset))

    def build_again(self, taken: set[int]) -> Prepared:
        """Make the model anew."""
        return prepare(lambda: self._architecture.make_again(taken), self._request)

    def restore_again(self, prepared: Prepared) -> None:
        """Load the weights into another build."""
        self._put(prepared.model)

    def environment(self) -> Mapping[str, str]:
        """Return the versions of what read the files, and of the Keras that wrote them."""
        written = self._staged.keras_version
        return {
            "h5py": str(h5py.__version__),
            **({"written_by_keras": written} if written else {}),
            **environment(),
        }

    def _find_sources(self, model: Any, weights: Iterable[Weight], before: Snapshot) -> Landed:
        copies = [self._dyed / path.name for path in self._staged.shards]
        target = self._dyed / self._staged.weights.name
        if target not in copies:
            target.symlink_to(self._staged.weights)
        return find_sources(
            weights,
            self._datasets,
            self._staged.shards,
            copies,
            lambda: self._load(model, target),
            before,
        )

    def _put(self, model: Any) -> None:
        self._load(model, self._staged.weights)
        with users_code("a layer's finalize_state()", self._request):
            refresh_derived(model)

    def _load(self, model: Any, path: Path) -> None:
        if not hasattr(model, "load_weights"):
            raise InputError(
                f"the builder returned {type(model).__name__}, and only a Keras model can load "
                f"{self._request.checkpoint.name}",
                hint="return the model itself, a keras.Model",
            )
        try:
            self._architecture.load_weights(model, path)
        except Exception as exc:  # the border to Keras, and to load methods of the user's
            raise ProofError(
                f"Keras cannot load the weights of {self._request.checkpoint.name} into the "
                f"model: {brief(exc)}",
                subjects=[],
                hint="build the model as training built it",
            ) from exc

    def _require_same_model(self, model: Any, landed: Landed) -> None:
        """Refuse a builder's model that leaves weights of the file out."""
        surplus = self._unused(landed)
        if not surplus or not self._architecture.is_builders:
            return
        lost = [
            weight
            for weight in all_weights(model)
            if weight.key not in landed.sources and _SEED not in weight.name
        ]
        lines = [
            f"{weight.name} {weight.dtype}{list(weight.shape or ())}"
            + (_MIXED if weight.key in landed.mixed else " is not in the checkpoint")
            for weight in lost
        ]
        lines += [f"{dataset} of the checkpoint is not in the model" for dataset in surplus]
        raise ProofError(
            "the builder's model is not the one in the checkpoint:" + listed(lines),
            subjects=[weight.name for weight in lost] + [dataset.key for dataset in surplus],
            hint="build the model as training built it",
        )

    def _unused(self, landed: Landed) -> list[Dataset]:
        """Return the datasets that no variable has and that do not only serve training."""
        used = {dataset.key: dataset for dataset in landed.sources.values()}
        return [
            dataset
            for dataset in self._datasets
            if dataset.key not in used
            and not _is_trainings(dataset)
            and not self._is_repeated(dataset, used.values())
        ]

    def _is_repeated(self, dataset: Dataset, used: Iterable[Dataset]) -> bool:
        """Return whether an outer layer saved this for an inner one, which saved it too.

        ``TextVectorization`` does so with the weights of its lookup layer.
        """
        place, _, name = dataset.key.rpartition("/vars/")
        inner = [
            other
            for other in used
            if other.key.startswith(f"{place}/") and other.key.endswith(f"/vars/{name}")
        ]
        values = [read_from(self._staged.shards, other).tobytes() for other in (dataset, *inner)]
        return values[0] in values[1:]


def _cautions(config: Any) -> list[str]:
    """Return a warning if the optimizer that was saved with the model keeps averages."""
    for part in ("compile_config", "optimizer", "config"):
        config = config.get(part) if isinstance(config, Mapping) else None
    keeps = isinstance(config, Mapping) and config.get("use_ema") is True
    return [AVERAGES_KEPT] if keeps else []


def _is_trainings(dataset: Dataset) -> bool:
    """Return whether this belongs to an optimizer, or is a seed or a counter."""
    if dataset.shape == () and dataset.dtype.name in _COUNTERS:
        return True
    parts = dataset.key.split("/")
    return _SEED in dataset.key or any("optimizer" in part for part in parts[:-1])


def brief(exc: BaseException) -> str:
    """Return kind and first lines of an exception whose message may be a page long."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return f"{type(exc).__name__}: {' '.join(lines[:4])[:600]}"
