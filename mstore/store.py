"""`Store`: opens a store and gives each use case one method."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mstore import disk
from mstore.catalog.engine import connect
from mstore.catalog.schema import ensure_current
from mstore.domain import retention
from mstore.domain.places import base_of
from mstore.domain.programs import Program
from mstore.domain.progress import NoProgress, Progress
from mstore.domain.records import (
    AuditReport,
    Checkout,
    Checkpoint,
    Deployment,
    Diff,
    Event,
    Version,
)
from mstore.domain.servers import WAIT, Confirmation
from mstore.domain.targets import Policy, Rollback, Target, TargetState
from mstore.domain.tensors import TensorTable
from mstore.domain.upkeep import GcReport, PruneReport, RebuildReport, RepairReport, VerifyReport
from mstore.errors import DamagedStoreError, Error, InputError, StoreNotFoundError, UsageError
from mstore.ops import query
from mstore.ops.context import CATALOG, Context
from mstore.ops.ledger import complete_ledger

# What only some methods need is imported in them: `mstore list` waits for none of it.
if TYPE_CHECKING:
    from mstore.domain.lint import LintReport
    from mstore.domain.signatures import TensorSpec
    from mstore.ops.add import AddOptions
    from mstore.ops.background import PendingAdd

StrPath = str | os.PathLike[str]

DIRECTORY = ".mstore"
"""Name of the directory that is a store."""

MARKER = "format"
"""File by which a directory is known as a store."""

_FORMAT = "mstore store 1\n"


@dataclass(frozen=True, slots=True)
class AddOutcome:
    """What came of adding several checkpoints.

    Attributes:
        checkpoints: those that are in the store now.
        failures: path and error of each of the others.
    """

    checkpoints: tuple[Checkpoint, ...]
    failures: tuple[tuple[str, Error], ...]


class Store:
    """A store of checkpoints and of the versions made of them.

    Open one with `Store.open` or make one with `Store.init`; it is a context manager. A store may
    be used by many processes at once; one `Store` object by one thread at a time.

    Attributes:
        path: the ``.mstore`` directory.
        created: whether `init` made it just now.
    """

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        """Open the store at ``path``; `open` finds it for you."""
        self.path = path
        self.created = False
        engine = connect(path / CATALOG)
        self._context = Context(path, engine, progress or NoProgress())
        with disk.os_errors(f"the store {path} cannot be opened"):
            ensure_current(engine)
        complete_ledger(self._context)

    @classmethod
    def init(cls, directory: StrPath = ".", *, progress: Progress | None = None) -> "Store":
        """Make a store in ``directory``, or open the one that is there.

        It appears complete or not at all.

        Raises:
            SystemIOError: the directory cannot be written.
        """
        parent = Path(directory).absolute()
        path = parent / DIRECTORY
        created = False
        with disk.os_errors(f"no store can be made in {parent}"):
            parent.mkdir(parents=True, exist_ok=True)
            disk.sweep(parent)
            if not path.exists():
                created = _create(parent, path)
        store = cls(path, progress)
        store.created = created
        return store

    @classmethod
    def open(
        cls, path: StrPath = ".", *, exact: bool = False, progress: Progress | None = None
    ) -> "Store":
        """Open the store in ``path`` or in the nearest directory above it.

        Args:
            path: where to begin, or the ``.mstore`` directory itself.
            exact: look nowhere else.
            progress: hears of long work.

        Raises:
            StoreNotFoundError: there is none.
            StoreVersionError: it was written by a newer mstore.
        """
        found = _find(path, exact=exact)
        _ensure_catalog(found)
        return cls(found, progress)

    @staticmethod
    def rebuild(
        path: StrPath = ".", *, exact: bool = False, progress: Progress | None = None
    ) -> RebuildReport:
        """Make the catalog of a store again, from the packs and the ledger.

        Args:
            path: where to begin to look, as for `open`.
            exact: look nowhere else.
            progress: hears of long work.

        Raises:
            StoreNotFoundError: there is none.
            StoreVersionError: it was written by a newer mstore.
        """
        from mstore.ops.rebuild import rebuild

        return rebuild(_find(path, exact=exact), progress)

    def close(self) -> None:
        """Close the connections to the catalog."""
        self._context.engine.dispose()

    def __enter__(self) -> "Store":
        """Return the store itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    def add(
        self,
        path: StrPath,
        *,
        model: str | Any,
        name: str | None = None,
        live: Any = None,
        background: bool = False,
        example: Any = None,
        **options: Any,
    ) -> "Checkpoint | PendingAdd":
        """Add one checkpoint.

        Args:
            path: its prefix or any of its files.
            model: name of the model; or the live model itself, whose weights the checkpoint must
                then hold (``name`` gives the name, else the model's own ``name`` is taken).
            name: name of the model where ``model`` is a live one.
            live: the live model, where ``model`` is a name.
            background: return at once and add in another thread. The files are held open from now
                on, so it does no harm if they are deleted meanwhile.
            example: a golden example: the path of a ``.npz`` file (`mstore.convert.examples`);
                or, with a live model, a batch: an array or a mapping of input key to array, whose
                outputs are taken from the live model now. Each export must then give them.
            options: ``run``, ``step``, ``metrics``, ``tags``, ``meta``, ``note``, ``builder``,
                ``replace``; see `AddOptions`.

        Returns:
            The checkpoint, or with ``background`` a handle whose ``result()`` is the checkpoint.

        Raises:
            InputError: there is no checkpoint, or no step can be found.
            DamagedFileError: it is damaged.
            ConflictError: the run has another content at this step.
            WeightsNotSavedError: the live model has weights that the checkpoint does not hold.
        """
        from mstore.formats.detect import find_checkpoints
        from mstore.ops.add import add
        from mstore.ops.background import PendingAdd
        from mstore.ops.live import ensure_saved
        from mstore.ops.opened import OpenCheckpoint

        if not isinstance(model, str):
            live, model = model, name or getattr(model, "name", None)
        chosen = _options(model, example=_example(example, live), **options)
        prefixes = find_checkpoints(Path(path))
        if len(prefixes) != 1:
            raise UsageError(
                f"{path} holds {len(prefixes)} checkpoints",
                hint="name one of them, or use add_all",
            )
        opened = OpenCheckpoint(prefixes[0])
        if background:
            return PendingAdd(self._context, opened, chosen, live)
        with opened:
            if live is not None:
                ensure_saved(live, opened.table())
            return add(self._context, opened, chosen)

    def add_all(
        self, paths: Sequence[StrPath], *, model: str, latest: bool = False, **options: Any
    ) -> AddOutcome:
        """Add every checkpoint that the paths mean, in order, and go on after a failure.

        Args:
            paths: prefixes, files of checkpoints, or directories of checkpoints.
            model: name of the model.
            latest: of a directory, only the one its state file names.
            options: as for `add`; ``step`` only where there is one checkpoint.

        Raises:
            UsageError: ``step`` is given for several checkpoints.
        """
        from mstore.formats.detect import find_checkpoints
        from mstore.ops.add import add
        from mstore.ops.opened import OpenCheckpoint

        options["example"] = _example(options.get("example"), None)
        chosen = _options(model, **options)
        prefixes: list[Path] = []
        done: list[Checkpoint] = []
        failures: list[tuple[str, Error]] = []
        for path in paths:
            try:
                prefixes += find_checkpoints(Path(path), latest=latest)
            except Error as error:
                failures.append((str(path), error))
        prefixes = list(dict.fromkeys(prefixes))
        if chosen.step is not None and len(prefixes) > 1:
            raise UsageError(
                f"--step is given, and there are {len(prefixes)} checkpoints",
                hint="add them one at a time, or without --step",
            )
        for prefix in prefixes:
            try:
                with OpenCheckpoint(prefix) as opened:
                    done.append(add(self._context, opened, chosen))
            except Error as error:
                failures.append((str(prefix), error))
        return AddOutcome(tuple(done), tuple(failures))

    def list(
        self,
        model: str | None = None,
        *,
        run: str | None = None,
        limit: int | None = None,
        superseded: bool = False,
        pruned: bool = False,
    ) -> tuple[Checkpoint, ...]:
        """Return checkpoints, the last added first.

        Args:
            model: only of this model; may be ``MODEL/RUN``.
            run: only of this run.
            limit: at most so many.
            superseded: those that other content has replaced too.
            pruned: those that were pruned too.
        """
        return query.list_checkpoints(
            self._context, model, run=run, limit=limit, superseded=superseded, pruned=pruned
        )

    def versions(
        self, model: str | None = None, *, limit: int | None = None
    ) -> tuple[Version, ...]:
        """Return versions by model, the highest number first."""
        return query.list_versions(self._context, model, limit=limit)

    def programs(
        self, model: str | None = None, *, limit: int | None = None
    ) -> tuple[Program, ...]:
        """Return the programs that versions are linked with, the last recorded first."""
        return query.list_programs(self._context, model, limit=limit)

    def deployments(
        self, model: str | None = None, *, limit: int | None = None
    ) -> tuple[Deployment, ...]:
        """Return deployments, the last first."""
        return query.list_deployments(self._context, model, limit=limit)

    def show(self, reference: str) -> Checkpoint | Version | Program:
        """Return the checkpoint, version or program that ``reference`` names.

        Raises:
            UnknownReferenceError: it names nothing.
            AmbiguousReferenceError: it names more than one thing.
        """
        return query.show(self._context, reference)

    def tensors(self, reference: str) -> TensorTable:
        """Return the tensor table of the checkpoint that ``reference`` names."""
        from mstore.ops.diff import tensors

        return tensors(self._context, reference)

    def log(self, reference: str | None = None, *, limit: int | None = None) -> tuple[Event, ...]:
        """Return the ledger, the last event first: all of it, of a model, or of one thing."""
        return query.log(self._context, reference, limit=limit)

    def diff(self, a: str, b: str) -> Diff:
        """Compare two checkpoints tensor by tensor."""
        from mstore.ops.diff import diff

        return diff(self._context, a, b)

    def alias(self, reference: str, name: str) -> Version:
        """Give an alias to a version, taking it from the one of the model that has it.

        Raises:
            UsageError: ``name`` cannot be an alias.
            UnknownReferenceError: there is no such version.
        """
        from mstore.ops.tag import alias

        return alias(self._context, reference, name)

    def tag(self, reference: str, name: str) -> Checkpoint:
        """Give a tag to a checkpoint, taking it from the one of the model that has it."""
        from mstore.ops.tag import tag

        return tag(self._context, reference, name)

    def checkout(self, reference: str, directory: StrPath) -> Checkout:
        """Write a checkpoint's original files into ``directory``.

        Raises:
            ConflictError: another file of the same name is there.
        """
        from mstore.ops import checkout as checkout_op

        return checkout_op.checkout(self._context, reference, Path(directory))

    def export(
        self,
        reference: str,
        *,
        builder: str | None = None,
        builder_args: Mapping[str, str] | None = None,
        inputs: "Mapping[str, TensorSpec | str] | None" = None,
        outputs: Mapping[str, str] | None = None,
        root: str | None = None,
        to: StrPath | None = None,
        trust: bool = False,
        allow_unrestored: Sequence[str] = (),
        allow_lint: Sequence[str] = (),
        timeout: float | None = None,
        message: str | None = None,
        search_path: StrPath = ".",
        weights: str | None = None,
        trace: bool = False,
        program: str | None = None,
        learn: bool = True,
        example: StrPath | None = None,
        atol: float = 1e-5,
        rtol: float = 1e-5,
        warmup: bool = True,
        check: bool = False,
    ) -> Version:
        """Make a version of a checkpoint, proven to hold its weights; publish it with ``to``.

        Args:
            reference: the checkpoint.
            builder: ``FILE.py:NAME`` or ``package.module:NAME``; by default the recorded one.
                A model that Keras saved whole needs none, or ``FILE.py`` with its classes.
            builder_args: keyword arguments for it.
            inputs: dtype and shape by input key, where the model does not say. Of a checkpoint of
                TensorFlow 1 with its graph, the tensor by input key (``"x": "images:0"``), and
                the value by fixed tensor (``"is_training:0": "false"``).
            outputs: tensor of such a graph by output key.
            root: where the model is in the checkpoint, where that is not clear.
            to: base path to publish in.
            trust: whether code that a Keras file carries itself (the functions of ``Lambda``
                layers) may be run.
            allow_unrestored: variables that need not come from the checkpoint.
            allow_lint: kinds of lint errors to put up with; see `mstore.domain.lint.KINDS`.
            timeout: seconds for the conversion, and again for the check.
            message: why, for the ledger.
            search_path: directory for relative builder files and builder modules.
            weights: ``"raw"`` or ``"ema"``: the weights, or their moving averages where an
                optimizer keeps them. Where both are there and differ, one must be named.
            trace: run the builder even where a recorded program could be linked.
            program: beginning of the id of the program to link with.
            learn: whether the program of a traced model is recorded, so that later checkpoints of
                the same structure are linked. It takes one more trace, once.
            example: a golden example, a ``.npz`` file (`mstore.convert.examples`); by default the
                one recorded with the checkpoint.
            atol: how far an output of the example may be off.
            rtol: the same, relative to what is expected.
            warmup: whether the example becomes the version's warmup request.
            check: whether TensorFlow's C++ loader also runs what was linked. It always runs what
                was traced, and a golden example.

        Raises:
            MissingExtraError: ``check`` is asked for, and TensorFlow is not installed.
            ProofError: a variable is not a tensor of the checkpoint.
            LintError: TensorFlow Serving could not serve the result.
            LoadCheckError: TensorFlow's C++ loader cannot load or run the result.
            ParityError: the golden example does not come out.
            UsageError: ``allow_lint`` names what is no kind of finding.
            WorkerError: the builder or the conversion failed.
        """
        from mstore.ops.export import export
        from mstore.ops.lint import known_kinds
        from mstore.ops.made import ExportOptions

        options = ExportOptions(
            builder=builder,
            builder_args=dict(builder_args or {}),
            inputs=dict(inputs or {}),
            outputs=dict(outputs or {}),
            root=root,
            to=Path(to) if to is not None else None,
            trust=trust,
            allow_unrestored=tuple(allow_unrestored),
            allow_lint=known_kinds(allow_lint),
            timeout=timeout,
            message=message,
            search_path=Path(search_path),
            weights=weights,
            trace=trace,
            program=program,
            learn=learn,
            example=Path(example) if example is not None else None,
            atol=atol,
            rtol=rtol,
            warmup=warmup,
            check=check,
        )
        return export(self._context, reference, options)

    def promote(
        self,
        version: str,
        target: StrPath,
        *,
        message: str | None = None,
        alias: str | None = None,
        allow: Sequence[str] = (),
        labels: Sequence[str] = (),
        wait: float | None = WAIT,
        atol: float = 1e-5,
        rtol: float = 1e-5,
    ) -> Deployment:
        """Place a version in a target or a TensorFlow Serving base path.

        Where the target has a server, it has to serve the version and to give what its golden
        example says; else the version is taken out again.

        Args:
            version: which one.
            target: name of a target, or a directory.
            message: why, for the ledger.
            alias: a name that the version gets.
            allow: reasons that shall not hold it back, words of `mstore.ops.welcome.REASONS`.
            labels: labels of the server's config that move to it, for a target with one.
            wait: seconds for the target's server to serve it; None does not ask the server.
            atol: how far an output of the golden example may be off there.
            rtol: the same, relative to what is expected.

        Raises:
            RefusedError: its signatures, its checks or its past speak against it.
            ConflictError: its number is there with other content.
            StoreLockedError: another process holds the base path.
            ServerError: the target's server does not answer; nothing was done.
            NotServedError: the server does not serve it as it should; it was taken out again.
        """
        from mstore.ops import promote as promote_op

        confirm = None if wait is None else Confirmation(wait, atol, rtol)
        options = promote_op.PromoteOptions(message, alias, tuple(allow), confirm, tuple(labels))
        return promote_op.promote(self._context, version, _place(target), options)

    def rollback(
        self,
        target: StrPath,
        *,
        to: int | None = None,
        model: str | None = None,
        message: str | None = None,
        alias: str | None = None,
        wait: float | None = WAIT,
    ) -> Rollback:
        """Make an earlier version the live one again; see `mstore.ops.withdrawing.rollback`.

        ``wait`` is as for `promote`.
        """
        from mstore.ops import withdrawing

        return withdrawing.rollback(
            self._context,
            _place(target),
            to=to,
            model=model,
            message=message,
            alias=alias,
            confirm=None if wait is None else Confirmation(wait),
        )

    def retire(
        self,
        target: StrPath,
        version: int,
        *,
        model: str | None = None,
        message: str | None = None,
    ) -> Deployment:
        """Take a version that is not needed any more out of a target; it stays in the store.

        Raises:
            RefusedError: it is the last one there, the live one, or has an alias.
            UnknownReferenceError: it is not there.
        """
        from mstore.ops import withdrawing

        return withdrawing.retire(
            self._context, _place(target), version, model=model, message=message
        )

    def add_target(
        self,
        name: str,
        base: StrPath,
        *,
        models: Sequence[str],
        keep: int | None = None,
        server: str | None = None,
        policy: Policy = "latest",
        config: StrPath | None = None,
    ) -> Target:
        """Give a serving directory a name; see `mstore.ops.targets.add_target`."""
        from mstore.ops import targets as targets_op

        return targets_op.add_target(
            self._context,
            name,
            base_of(os.fspath(base)),
            models=models,
            keep=keep,
            server=server,
            policy=policy,
            config=None if config is None else Path(config),
        )

    def targets(self) -> tuple[TargetState, ...]:
        """Return every base path of a target, with what the ledger says is in it."""
        from mstore.ops import targets as targets_op

        found = targets_op.states(self._context)
        return tuple(state for state in found if state.site.target is not None)

    def target(self, name: str) -> Target:
        """Return a target by its name.

        Raises:
            UnknownReferenceError: there is none.
        """
        from mstore.ops import targets as targets_op

        return targets_op.get_target(self._context, name)

    def remove_target(self, name: str) -> Target:
        """Forget a target; its directory and its history stay.

        Raises:
            UnknownReferenceError: there is none of that name.
        """
        from mstore.ops import targets as targets_op

        return targets_op.remove_target(self._context, name)

    def deployed(self, model: str | None = None) -> tuple[TargetState, ...]:
        """Return every base path that has versions, with what the ledger says is in it."""
        from mstore.ops import targets as targets_op

        found = targets_op.states(self._context, model=model)
        return tuple(state for state in found if state.placed.present)

    def audit(self, path: StrPath) -> AuditReport:
        """Tell which checkpoints a serving directory holds and whether every byte is as it was."""
        from mstore.ops import audit as audit_op

        return audit_op.audit(Path(path), self._context)

    def audits(
        self, where: StrPath | None = None, *, at: str | None = None, model: str | None = None
    ) -> tuple[AuditReport, ...]:
        """Audit the base paths of a target, a directory, or of all targets.

        Args:
            where: name of a target, or a directory; None for all targets.
            at: tell from the ledger what was there at this time (ISO 8601, local time unless it
                has an offset), and look at no directory.
            model: only of this model.

        Raises:
            InputError: a directory is not there.
            UnknownReferenceError: there is no target at all, or nothing was there then.
        """
        from mstore.ops import audit as audit_op
        from mstore.ops import past

        place = None if where is None else _place(where)
        if at is not None:
            return past.audit_at(self._context, place, at=at, model=model)
        return audit_op.audit_targets(self._context, place, model)

    def doctor(self, where: StrPath, *, config: StrPath | None = None) -> "tuple[LintReport, ...]":
        """Say all that is wrong with a target or a serving directory; see `mstore.ops.doctor`."""
        from mstore.ops.doctor import doctor

        place = None if config is None else Path(config)
        return doctor(self._context, str(where), config=place, progress=self._context.progress)

    def lint(self, path: StrPath) -> "LintReport":
        """Tell what TensorFlow Serving would refuse of a SavedModel, a version or a base path.

        Raises:
            InputError: the path is no directory.
        """
        return lint(path, self._context.progress)

    def verify(self, *, subset: tuple[int, int] = (1, 1), resume: bool = False) -> VerifyReport:
        """Check the structure of the store, then every byte against its id.

        What is damaged is written down, so that adding the same content writes it again; nothing
        else is changed.

        Args:
            subset: ``(n, t)`` reads the packs of the ``n``-th of ``t`` parts alone.
            resume: go on where a verification of the same subset was stopped.

        Raises:
            UsageError: there is no such subset.
        """
        from mstore.ops.verify import verify

        return verify(self._context, subset=subset, resume=resume)

    def prune(
        self,
        model: str,
        *,
        run: str | None = None,
        keep_last: int | None = None,
        keep_every: int | None = None,
        keep_best: str | Sequence[str] = (),
        keep_tagged: bool = False,
        only: Iterable[str] | None = None,
        message: str | None = None,
        dry_run: bool = False,
    ) -> PruneReport:
        """Take checkpoints out of the store that no rule keeps and nothing needs.

        A checkpoint stays if one of the rules keeps it, or a version or a tag needs it. What goes
        is marked as pruned; `gc` then drops its bytes. Adding the same files brings it back.

        Args:
            model: name of the model, or ``MODEL/RUN``.
            run: only checkpoints of this run.
            keep_last: so many of each run, by step.
            keep_every: of each run the first in each interval of so many steps.
            keep_best: ``"3:val_loss"``, lowest, or ``"3:+accuracy"``, highest; or several.
            keep_tagged: what has a tag, which stays in any case; as the only rule, nothing else.
            only: ids; no other checkpoint goes, whatever the rules say.
            message: why, for the ledger.
            dry_run: only say what would go.

        Raises:
            UsageError: there is no rule, or it cannot be one.
            UnknownReferenceError: there is no such model or run.
        """
        from mstore.ops.prune import PruneOptions, prune

        best = [keep_best] if isinstance(keep_best, str) else keep_best
        options = PruneOptions(
            model=model,
            run=run,
            rules=retention.rules_of(keep_last, keep_every, best, tagged=keep_tagged),
            only=None if only is None else frozenset(only),
            message=message,
        )
        return prune(self._context, options, dry_run=dry_run)

    def gc(self, *, dry_run: bool = False, grace: float | None = None) -> GcReport:
        """Remove bytes that nothing needs, and store older steps as differences to newer ones.

        Args:
            dry_run: only say what would be removed, and estimate what would be saved.
            grace: seconds; what was written or pruned later than so long ago stays. An hour by
                default.

        Raises:
            UsageError: ``grace`` is negative.
        """
        from mstore.ops.gc import GRACE, collect

        return collect(self._context, dry_run=dry_run, grace=GRACE if grace is None else grace)

    def repair(self, *, sources: Sequence[StrPath] = (), dry_run: bool = False) -> RepairReport:
        """Verify the store and take good copies of what is damaged from where they still are.

        Args:
            sources: other stores, and directories of original files or published versions, beside
                the places that the catalog knows.
            dry_run: only say what would come of it.

        Raises:
            InputError: a source is not there.
        """
        from mstore.ops.repair import repair

        stores: list[Store] = []
        directories: list[Path] = []
        try:
            for source in map(Path, sources):
                try:
                    stores.append(Store.open(source, exact=True))
                except StoreNotFoundError as error:
                    if not source.is_dir():
                        raise InputError(f"{source} is neither a store nor a directory") from error
                    directories.append(source)
            contexts = [store._context for store in stores]  # noqa: SLF001 - one of us
            return repair(self._context, contexts, directories, dry_run=dry_run)
        finally:
            for store in stores:
                store.close()


def _place(where: StrPath) -> str | Path:
    return where if isinstance(where, str) else Path(where)


def audit_without_store(path: StrPath, progress: Progress | None = None) -> AuditReport:
    """Audit a directory by the statements in it, where no store is at hand."""
    from mstore.ops import audit as audit_op

    return audit_op.audit(Path(path), None, progress)


def doctor_without_store(
    path: StrPath, *, config: StrPath | None = None, progress: Progress | None = None
) -> "tuple[LintReport, ...]":
    """Say all that is wrong with a serving directory, without a store.

    Raises:
        InputError: ``path`` is not a directory.
    """
    from mstore.ops.doctor import doctor

    place = None if config is None else Path(config)
    return doctor(None, str(path), config=place, progress=progress)


def lint(path: StrPath, progress: Progress | None = None) -> "LintReport":
    """Lint a directory; needs no store.

    Raises:
        InputError: the path is no directory.
    """
    from mstore.ops.lint import lint as lint_op

    return lint_op(Path(path), progress)


def _create(parent: Path, path: Path) -> bool:
    """Make the store beside its final name, then rename; False if another process was first."""
    with disk.work_directory(parent) as work:
        staged = work / DIRECTORY
        for directory in (staged, staged / "packs", staged / "tmp"):
            disk.make_directory(directory)
        marker = disk.NewFile(staged / MARKER)
        marker.write(_FORMAT.encode())
        marker.sync()
        marker.close()
        engine = connect(staged / CATALOG)
        try:
            ensure_current(engine)
        finally:
            engine.dispose()
        disk.sync_directory(staged)
        try:
            disk.rename_new(staged, path)
        except FileExistsError:
            return False
    return True


def _find(path: StrPath, *, exact: bool) -> Path:
    """Return the ``.mstore`` directory in ``path``, or in the nearest directory above it."""
    start = Path(path).absolute()
    for place in [start] if exact else [start, *start.parents]:
        for candidate in (place / DIRECTORY, place):
            if candidate.name == DIRECTORY and (candidate / MARKER).is_file():
                return candidate
    raise StoreNotFoundError(
        f"there is no store in {start}" + ("" if exact else " or above it"),
        hint="make one: mstore init",
    )


def _ensure_catalog(path: Path) -> None:
    if not (path / CATALOG).is_file():
        raise DamagedStoreError(
            f"the store {path} has lost its catalog",
            hint="make it again from the packs and the ledger: mstore fsck --rebuild",
        )


def _example(example: Any, live: Any) -> bytes | None:
    """Return a golden example as it is stored.

    Raises:
        InputError: there is no such file, or it is none.
        UsageError: a batch is given without the live model.
    """
    if example is None:
        return None
    from mstore.convert.examples import read_example, to_bytes
    from mstore.ops.live import example_of

    if isinstance(example, (str, os.PathLike)):
        return to_bytes(read_example(Path(example)))
    if live is None:
        raise UsageError(
            "the example is a batch, and its outputs are not known",
            hint="give the live model as well, or the path of a .npz file",
        )
    return to_bytes(example_of(live, example))


def _options(model: Any, **options: Any) -> "AddOptions":
    from mstore.ops.add import DEFAULT_RUN, AddOptions

    if not isinstance(model, str):
        raise UsageError("the model has no name", hint="give one: model='NAME' or name='NAME'")
    given = {name: value for name, value in options.items() if value is not None}
    unknown = set(given) - set(AddOptions.__slots__)
    if unknown:
        raise TypeError(f"add() got unexpected options: {', '.join(sorted(unknown))}")
    given.setdefault("run", DEFAULT_RUN)
    given["tags"] = tuple(given.get("tags", ()))
    file, ending, function = given.get("builder", "").rpartition(".py")
    if ending and function[:1] in {"", ":"}:  # a module's name says the same anywhere
        given["builder"] = f"{Path(file).absolute()}{ending}{function}"
    return AddOptions(model=model, **given)


__all__ = ["AddOutcome", "Store", "audit_without_store", "doctor_without_store", "lint"]
