"""Pages of versions, deployments and events."""

from collections.abc import Iterator, Mapping, Sequence

from mstore.cli.output import Line, Page
from mstore.cli.text import Table, moment, shape, short, size
from mstore.domain.records import Deployment, Event, Version
from mstore.domain.signatures import Signature, TensorSpec
from mstore.domain.targets import PRESENT


def id_of(version: Version) -> str:
    """Return the reference of a version."""
    return f"{version.model}:{version.version}"


def versions_page(versions: Sequence[Version]) -> Page:
    """Return the page of ``mstore list --versions``."""
    rows = tuple(
        (
            id_of(item),
            item.run,
            item.step,
            short(item.checkpoint),
            item.method,
            " ".join(f"{name}={result}" for name, result in sorted(item.checks.items())),
            size(item.bytes),
            " ".join(item.aliases),
            moment(item.created_at),
        )
        for item in versions
    )
    headings = (
        *("VERSION", "RUN", "STEP", "CHECKPOINT", "METHOD", "CHECKS", "SIZE", "ALIASES"),
        "CREATED",
    )
    return Page(
        [item.to_json() for item in versions],
        tuple(map(id_of, versions)),
        (Table(headings, rows, right=frozenset({"STEP", "SIZE"})),),
    )


def exported_page(version: Version) -> Page:
    """Return the page of ``mstore export``."""
    lines = [
        Line(f"{id_of(version)}  from {version.model}/{version.run}@{version.step}", "bold"),
        *map(Line, version_facts(version)),
        *(Line(f"warning: {text}", "yellow") for text in version.warnings),
    ]
    if version.published is None:
        lines.append(Line(f"not served yet: mstore promote {id_of(version)} DIR"))
    else:
        lines.append(Line(f"published in {version.published}"))
    return Page(version.to_json(), (id_of(version),), tuple(lines))


def version_facts(version: Version) -> Iterator[str]:
    """Yield what the proof, the checks and the signatures say, a line each."""
    checks = version.checks
    yield (
        f"  weights {checks.get('weights', '?')}: {version.tensors} variables, "
        f"{size(version.bytes)}, checkpoint {short(version.checkpoint)}"
    )
    if version.method == "link":
        yield f"  linked with program {short(version.program)}, no builder was run"
    load = checks.get("load", "?")
    yield f"  load {load}" + (
        " by TensorFlow's C++ loader with XLA off"
        if load != "skipped"
        else ", as its graph was run when the program was recorded"
    )
    yield f"  parity {checks.get('parity', '?')}" + _parity(version)
    yield from signature_lines(version.signatures)


def _parity(version: Version) -> str:
    if not version.parity:
        return ""
    return f", largest difference {version.parity['largest_difference']:.2g}"


def signature_lines(signatures: Mapping[str, Signature]) -> Iterator[str]:
    """Yield a line for each entry point."""
    for name, signature in sorted(signatures.items()):
        yield f"  {name}({_specs(signature.inputs)}) -> {_specs(signature.outputs)}"


def _specs(specs: Mapping[str, TensorSpec]) -> str:
    return ", ".join(
        f"{key}: {spec.dtype}{shape(spec.shape)}" for key, spec in sorted(specs.items())
    )


def deployments_page(deployments: Sequence[Deployment]) -> Page:
    """Return the page of ``mstore log --deployed``."""
    rows = tuple(
        (
            moment(item.at),
            item.event,
            f"{item.model}:{item.version}",
            item.target,
            item.by,
            item.message or "",
        )
        for item in deployments
    )
    return Page(
        [item.to_json() for item in deployments],
        tuple(item.path for item in deployments),
        (Table(("AT", "EVENT", "VERSION", "TARGET", "BY", "MESSAGE"), rows),),
    )


def promoted_page(deployment: Deployment) -> Page:
    """Return the page of ``mstore promote`` and ``mstore retire``."""
    name = f"{deployment.model}:{deployment.version}"
    way = "to" if PRESENT[deployment.event] else "from"
    text = (
        f"{name}  {deployment.event} {way} {deployment.path}"
        if deployment.new
        else f"{name}  is already in {deployment.path}; nothing was done"
    )
    says = served_line(deployment.served)
    return Page(deployment.to_json(), (deployment.path,), (Line(text), *([says] if says else [])))


def served_line(served: Mapping[str, object] | None) -> Line | None:
    """Return a line of what a server says, or None where none was asked."""
    if served is None:
        return None
    parity = f"golden example {served['parity']}"
    if "largest_difference" in served:
        parity += f", largest difference {served['largest_difference']:.2g}"
    elif "note" in served:
        parity += f": {served['note']}"
    return Line(f"  {served['server']} serves it after {served['seconds']} s; {parity}")


def aliased_page(version: Version, alias: str) -> Page:
    """Return the page of a version that was given an alias."""
    name = id_of(version)
    return Page(version.to_json(), (name,), (Line(f"{version.model}:{alias}  is {name}"),))


def _which(item: Event) -> str:
    if item.checkpoint is not None:
        return short(item.checkpoint)
    return short(item.pruned[0]) if len(item.pruned) == 1 else f"{len(item.pruned)} checkpoints"


def events_page(events: Sequence[Event]) -> Page:
    """Return the page of ``mstore log``."""
    rows = tuple(
        (
            moment(item.at),
            item.event,
            f"{item.model}:{item.version}" if item.version is not None else item.model,
            item.run or "",
            "" if item.step is None else item.step,
            _which(item),
            item.by,
            item.path or "",
            item.message or "",
        )
        for item in events
    )
    headings = ("AT", "EVENT", "WHAT", "RUN", "STEP", "CHECKPOINT", "BY", "PATH", "MESSAGE")
    return Page(
        [item.to_json() for item in events],
        tuple(item.id for item in events),
        (Table(headings, rows, right=frozenset({"STEP"})),),
    )
