"""Pages of checkpoints."""

from collections.abc import Mapping, Sequence

from mstore.cli.output import Line, Page
from mstore.cli.text import Table, moment, short, size
from mstore.domain.records import Checkout, Checkpoint


def name_of(checkpoint: Checkpoint) -> str:
    """Return the reference that reads best: model, run and step."""
    return f"{checkpoint.model}/{checkpoint.run}@{checkpoint.step}"


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Return metrics on one line."""
    return " ".join(f"{name}={value:.6g}" for name, value in sorted(metrics.items()))


def state_of(checkpoint: Checkpoint) -> str:
    """Return what is the matter with a checkpoint that is not the current one of its step."""
    return "pruned" if checkpoint.pruned_at else "superseded" if checkpoint.superseded else ""


def checkpoints_page(checkpoints: Sequence[Checkpoint]) -> Page:
    """Return the page of ``mstore list``."""
    rows = tuple(
        (
            item.model,
            item.run,
            item.step,
            short(item.id),
            size(item.bytes),
            metrics_text(item.metrics),
            " ".join(item.tags),
            " ".join(f":{number}" for number in item.versions),
            moment(item.added_at),
            state_of(item),
        )
        for item in checkpoints
    )
    headings = ("MODEL", "RUN", "STEP", "ID", "SIZE", "METRICS", "TAGS", "VERSIONS", "ADDED", "")
    return Page(
        [item.to_json() for item in checkpoints],
        tuple(item.id for item in checkpoints),
        (Table(headings, rows, right=frozenset({"STEP", "SIZE"})),),
    )


def checkpoint_page(checkpoint: Checkpoint) -> Page:
    """Return the page of one checkpoint on one line."""
    tags = f"  tags: {' '.join(checkpoint.tags)}" if checkpoint.tags else ""
    return Page(
        checkpoint.to_json(),
        (checkpoint.id,),
        (Line(f"{name_of(checkpoint)}  {short(checkpoint.id)}{tags}"),),
    )


def added_page(checkpoints: Sequence[Checkpoint]) -> Page:
    """Return the page of ``mstore add``."""
    return Page(
        [item.to_json(with_new=True) for item in checkpoints],
        tuple(item.id for item in checkpoints),
        tuple(Line(_added(item)) for item in checkpoints),
    )


def _added(item: Checkpoint) -> str:
    head = f"{name_of(item)}  {short(item.id)}"
    if not item.new:
        return f"{head}  is already in the store; nothing was stored"
    where = f"variable {item.step_variable}" if item.step_variable else item.step_source
    stored = f"{item.tensors} tensors, {size(item.bytes)}, {size(item.stored_bytes)} stored"
    metrics = f"  {metrics_text(item.metrics)}" if item.metrics else ""
    return f"{head}  {stored}, step from {where}{metrics}"


def checkout_page(checkout: Checkout) -> Page:
    """Return the page of ``mstore checkout``."""
    total = sum(file.size for file in checkout.files)
    text = (
        f"{name_of(checkout.checkpoint)}  {len(checkout.files)} files, {size(total)}\n"
        f"restore from {checkout.prefix}"
    )
    return Page(checkout.to_json(), (checkout.prefix,), tuple(map(Line, text.split("\n"))))
