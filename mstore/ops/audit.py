"""Audit: which checkpoint is this, and is every byte still what it was? It changes nothing."""

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mstore import disk
from mstore.catalog import versions as version_queries
from mstore.catalog.engine import reading
from mstore.domain.places import Base, BucketPath, base_of
from mstore.domain.progress import NoProgress, Progress
from mstore.domain.records import (
    AuditReport,
    Deployment,
    Finding,
    Verdict,
    VersionAudit,
)
from mstore.domain.serving_names import canonical_number, server_number
from mstore.domain.targets import Site, replay
from mstore.errors import InputError, UnknownReferenceError
from mstore.ops.compare_files import compare_files
from mstore.ops.configuring import ConfigFile, live_number
from mstore.ops.context import Context
from mstore.ops.deploying import find_site, history
from mstore.ops.hashing import STATEMENT_PATH
from mstore.ops.identify import Identity, identify
from mstore.ops.inspect import Inspection, inspect
from mstore.ops.targets import paths_of, states
from mstore.serving.publish import numbers


def audit(path: Path, context: Context | None, progress: Progress | None = None) -> AuditReport:
    """Audit a base path, a version directory, or a copy of one.

    Args:
        path: the directory.
        context: the store to ask, or None to ask only the directory's own statements.
        progress: hears of bytes read.

    Raises:
        InputError: ``path`` is not a directory, or cannot be listed.
        DamagedStoreError: the store cannot give the facts it has recorded.
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}", hint="name a base path or a version directory")
    watcher = progress or (context.progress if context else NoProgress())
    places = _places(path)
    watcher.start(f"auditing {path}", None)
    try:
        versions = tuple(_audit_version(place, context, watcher) for place in places)
    except OSError as error:
        raise InputError(f"{path} cannot be audited: {error.strerror}") from error
    finally:
        watcher.finish()
    models = {_model(version) for version in versions}
    model = models.pop() if len(models) == 1 else None
    return AuditReport(str(path), model, versions, _base_findings(path, places))


def audit_targets(
    context: Context, where: str | Path | None, model: str | None = None
) -> tuple[AuditReport, ...]:
    """Audit the base paths of a target, one directory, or every base path of every target.

    Raises:
        InputError: a directory is not there.
        UnknownReferenceError: there is no target, or it does not serve the model.
    """
    if where is None:
        found = [state.site for state in states(context, model=model) if state.site.target]
        if not found:
            raise UnknownReferenceError(
                "there is no target to audit",
                reference="",
                candidates=[],
                hint="name a directory, or make one: mstore target add NAME BASE --model MODEL",
            )
    else:
        paths = paths_of(context, str(where))
        if paths is None:
            return (audit_base(base_of(where), context),)
        with reading(context.engine) as connection:
            chosen = sorted(paths) if model is None else [model]
            found = [find_site(connection, where, each) for each in chosen]
    return tuple(
        _as_served(context, replace(audit_base(site.base, context), target=site.name), site)
        for site in found
    )


def _as_served(context: Context, report: AuditReport, site: Site) -> AuditReport:
    """Say what a config file makes of a base path, where it decides what is live."""
    if site.policy != "specific" or site.target is None:
        return report
    model = next(m for m, path in site.target.paths.items() if base_of(path) == site.base)
    found, live = _config_findings(context, site, model)
    versions = tuple(replace(item, live=item.version == live) for item in report.versions)
    return replace(report, versions=versions, findings=(*report.findings, *found))


def _config_findings(
    context: Context, site: Site, model: str
) -> tuple[tuple[Finding, ...], int | None]:
    """Return what speaks against a config file, and the version that it makes live."""
    config = ConfigFile.of(site, model)
    assert config is not None  # noqa: S101 - the policy is ``specific``
    subject = f"{config.path}: {model}"
    try:
        entry, live = config.entry(), live_number(site, model)
    except InputError as error:
        return (
            Finding("config-unreadable", subject, error.message.removeprefix(f"{config.path}: ")),
        ), None
    found = []
    gone = sorted(entry.named - numbers(site.base).keys())
    if gone:
        detail = f"it names {', '.join(map(str, gone))}, which {site.base} does not have"
        found.append(Finding("config-absent-version", subject, detail))
    with reading(context.engine) as connection:
        chosen = replay(history(connection, site.base), policy="specific").live
    if chosen is not None and chosen not in entry.named:
        named = ", ".join(map(str, sorted(entry.named))) or "none"
        detail = (
            f"it names {named}, and the ledger says that {chosen} was chosen: the file was "
            "changed by hand, or a command was broken off"
        )
        found.append(Finding("config-changed", subject, detail))
    return tuple(found), live


def audit_base(base: Base, context: Context) -> AuditReport:
    """Audit a directory, or what is in a bucket, by a copy that is removed again."""
    if isinstance(base, Path):
        return audit(base, context)
    from mstore.serving import bucket  # noqa: PLC0415 - an extra

    disk.sweep(context.tmp)
    with disk.os_errors(f"auditing {base} failed"), disk.work_directory(context.tmp) as work:
        found = bucket.objects(base)
        # A version alone keeps its number as its name, which tells the audit what it is.
        number = canonical_number(str(base).rpartition("/")[2])
        alone = number is not None and any(
            name.startswith((*_MARKS[:2], f"{_MARKS[2]}/", _MARKS[3])) for name in found
        )
        copy = work / str(number) if alone else work
        for name in found:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise InputError(f"{base} has an object with the name {name!r}")
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            output = disk.NewFile(copy / path)
            try:
                for part in bucket.read(base, name):
                    output.write(part)
            finally:
                output.close()
        report = audit(copy, context)
    parent = base.parent if alone else base
    top = max(numbers(parent), default=None)
    versions = tuple(
        replace(
            item,
            path=str(parent / Path(item.path).name),
            deployment=_placed(context, parent, item),
            live=item.version is not None and item.version == top,
        )
        for item in report.versions
    )
    return replace(report, path=str(base), versions=versions)


def _placed(context: Context, base: BucketPath, item: VersionAudit) -> Deployment | None:
    with reading(context.engine) as connection:
        found = version_queries.find_deployments(
            connection, path=str(base / Path(item.path).name), limit=1
        )
    return found[0] if found else None


_MARKS = ("saved_model.pb", "saved_model.pbtxt", "variables", STATEMENT_PATH)
"""What only a version directory has, whole or damaged."""


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    number: int | None
    live: bool


def _places(path: Path) -> list[_Place]:
    """Return the version directories that ``path`` means."""
    if any((path / name).exists() for name in _MARKS):
        number = canonical_number(path.resolve().name)
        siblings = numbers(path.resolve().parent) if number is not None else {}
        return [_Place(path, number, number is not None and number == max(siblings, default=0))]
    found = numbers(path)
    top = max(found, default=0)
    return [
        _Place(path / name, number, number == top)
        for number in sorted(found)
        for name in found[number]
    ]


def _base_findings(path: Path, places: list[_Place]) -> tuple[Finding, ...]:
    if not places:
        detail = "no version directories (1, 2, ...) and no SavedModel here"
        return (Finding("no-versions", str(path), detail),)
    odd = [p for p in places if p.path != path and canonical_number(p.path.name) is None]
    return tuple(
        Finding(
            "odd-name",
            place.path.name,
            f"the server takes this name for version {server_number(place.path.name)}",
        )
        for place in odd
    )


def _model(version: VersionAudit) -> str | None:
    return str(version.checkpoint["model"]) if version.checkpoint else None


def _audit_version(place: _Place, context: Context | None, progress: Progress) -> VersionAudit:
    if not place.path.is_dir():
        finding = Finding("not-a-directory", place.path.name, "the server will fail to load it")
        return _result(place, "unknown", (finding,))
    inspection = inspect(place.path, progress)
    if context is None:
        return _by_statement(place, inspection)
    deployment = _deployment(context, place)
    identity = identify(context, inspection, deployment)
    return _by_catalog(place, inspection, identity, deployment)


def _deployment(context: Context, place: _Place) -> Deployment | None:
    with reading(context.engine) as connection:
        found = version_queries.find_deployments(
            connection, path=str(place.path.resolve()), limit=1
        )
    return found[0] if found else None


def _result(
    place: _Place,
    verdict: Verdict,
    findings: tuple[Finding, ...],
    *,
    identity: Identity | None = None,
    deployment: Deployment | None = None,
    inspection: Inspection | None = None,
) -> VersionAudit:
    statement = inspection.statement if inspection else None
    candidates = tuple(c.to_json() for c in identity.candidates) if identity else ()
    return VersionAudit(
        version=place.number,
        path=str(place.path),
        verdict=verdict,
        basis="catalog" if identity else None,
        checkpoint=candidates[0] if candidates else None,
        candidates=candidates,
        statement=statement.checkpoint if statement else None,
        deployment=deployment,
        findings=findings,
        live=place.live,
    )


def _by_catalog(
    place: _Place, inspection: Inspection, identity: Identity, deployment: Deployment | None
) -> VersionAudit:
    findings = [*inspection.findings, *identity.findings]
    if identity.expected is not None:
        findings += compare_files(inspection, identity.expected)
    serious = [finding for finding in findings if finding.kind not in NOTES]
    verdict: Verdict = "proven" if identity.proven and not serious else "modified"
    if not identity.candidates:
        verdict = "unknown"
    return _result(
        place,
        verdict,
        tuple(findings),
        identity=identity,
        deployment=deployment,
        inspection=inspection,
    )


NOTES = frozenset({"as-exported", "equal-weights", "foreign", "no-statement", "self-attested"})
"""Findings that are worth knowing and speak against nothing."""


def _by_statement(place: _Place, inspection: Inspection) -> VersionAudit:
    """Judge a directory by its own statement, where no store is at hand."""
    statement = inspection.statement
    if statement is None:
        detail = "no store is at hand and the directory carries no statement of its own"
        finding = Finding("no-statement", str(place.path), detail)
        return _result(place, "unknown", (*inspection.findings, finding), inspection=inspection)
    findings = [*inspection.findings, *compare_files(inspection, statement.files)]
    verdict: Verdict = "modified" if findings else "proven"
    detail = (
        "no store was at hand: compared with the statement inside the directory, which whoever "
        "can write the directory can write too"
    )
    note = Finding("self-attested", "assets.extra/mstore.json", detail)
    return VersionAudit(
        version=place.number,
        path=str(place.path),
        verdict=verdict,
        basis="statement",
        checkpoint=dict(statement.checkpoint),
        candidates=(),
        statement=statement.checkpoint,
        deployment=None,
        findings=(*findings, note),
        live=place.live,
    )
