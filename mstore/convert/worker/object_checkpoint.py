"""A model from a builder, restored from a checkpoint of ``tf.train.Checkpoint``."""

from collections.abc import Mapping

from mstore.convert.request import TraceRequest
from mstore.convert.worker.averages import choose
from mstore.convert.worker.binding import bind_unreached
from mstore.convert.worker.constants import Snapshot
from mstore.convert.worker.dialects import environment
from mstore.convert.worker.live import all_weights
from mstore.convert.worker.loading import call_builder, load_builder, users_code
from mstore.convert.worker.locating import locate, name_of
from mstore.convert.worker.matching import Bound, Match
from mstore.convert.worker.naming import refuse_contradictions, refuse_unconfirmed
from mstore.convert.worker.preparing import Prepared, prepare
from mstore.convert.worker.reads import Reads
from mstore.convert.worker.rebuilding import run_builder_again
from mstore.convert.worker.restoring import assign, refresh_derived, restore
from mstore.convert.worker.sources import Restored
from mstore.convert.worker.trained import Trained

_PARTS = ("", "-keys", "-values")


class ObjectCheckpoint:
    """The strategy for object-based checkpoints: walk the live model beside the object graph."""

    hint = (
        "training has to save them: make each layer an attribute of its own, not an entry of "
        "a list or dict; or let them be with --allow-unrestored NAME"
    )

    def __init__(self, request: TraceRequest, reads: Reads) -> None:
        """Open the checkpoint.

        Args:
            request: what was asked.
            reads: notices whose values are read while layers compute what they derive.

        Raises:
            DamagedFileError: if TensorFlow cannot read it.
            InputError: if it has no object graph.
        """
        self._request = request
        self._reads = reads
        self._trained = Trained(request.checkpoint)
        self._bindings: dict[int, Bound] = {}
        self._root = ""

    def build(self) -> Prepared:
        """Run the builder."""
        builder = load_builder(self._request)
        with users_code("building the model", self._request):
            return prepare(lambda: call_builder(builder, self._request), self._request)

    def restore(self, prepared: Prepared) -> Restored:
        """Find the model in the object graph, check the names, and assign the tensors."""
        found = locate(prepared.model, self._trained, self._request.root)
        bindings = bind_unreached(prepared.model, self._trained, found)
        refuse_contradictions(bindings.values())
        refuse_unconfirmed(bindings.values(), self._request.allow_unrestored)
        bindings = choose(bindings, self._trained, self._request.weights)
        before = Snapshot(all_weights(prepared.model))
        self._put(prepared, found, bindings, self._reads)
        before.forget(bound.weight.variable.numpy() for bound in bindings.values())
        self._bindings, self._root = bindings, name_of(self._trained, found.node)
        unused = self._unused(bindings)
        return Restored(
            sources={key: bound.leaf.key for key, bound in bindings.items()},
            before=before,
            tables={key: self._parts(keys) for key, keys in found.states.items()},
            root=self._root,
            unused=tuple(unused),
            warnings=tuple(self._cautions(bindings)),
        )

    def put_back(self) -> None:
        """Assign the bound tensors."""
        assign(self._trained, self._bindings.values())

    def build_again(self, taken: set[int]) -> Prepared:
        """Run the builder again."""
        return prepare(lambda: run_builder_again(self._request, taken), self._request)

    def restore_again(self, prepared: Prepared) -> None:
        """Restore from the node that the first build was restored from."""
        found = locate(prepared.model, self._trained, self._root)
        bindings = bind_unreached(prepared.model, self._trained, found)
        bindings = choose(bindings, self._trained, self._request.weights)
        self._put(prepared, found, bindings, Reads())

    def environment(self) -> Mapping[str, str]:
        """Return the version of tf-keras, if the builder uses it."""
        return environment()

    def _put(
        self, prepared: Prepared, found: Match, bindings: Mapping[int, Bound], reads: Reads
    ) -> None:
        path = self._trained.paths[found.node]
        restore(prepared.model, self._request.checkpoint, path, self._trained)
        assign(self._trained, bindings.values())
        with users_code("a layer's finalize_state()", self._request), reads.watching():
            refresh_derived(prepared.model)

    def _parts(self, keys: tuple[str, ...]) -> dict[str, str]:
        """Return the tensors of a table by the end of their key, which the SavedModel keeps."""
        return {
            key.rpartition("/")[2] + part: key + part
            for key in keys
            for part in _PARTS
            if self._trained.has(key + part)
        }

    def _unused(self, bindings: Mapping[int, Bound]) -> list[str]:
        known = {bound.instead_of or bound.leaf.key for bound in bindings.values()}
        return [key for key in self._trained.weights_of_no_optimizer() if key not in known]

    def _cautions(self, bindings: Mapping[int, Bound]) -> list[str]:
        warnings = []
        listed_only = [bound for bound in bindings.values() if bound.by_optimizer]
        if listed_only:
            warnings.append(
                f"{len(listed_only)} variable(s) are in Python lists or dicts, which checkpoints "
                "do not follow; they are taken from an optimizer's list "
                f"({listed_only[0].path} ...)"
            )
        return warnings
