"""The page of one checkpoint, version or program, with all that is known of it."""

from collections.abc import Iterator

from mstore.cli.output import Block, Line, Page
from mstore.cli.pages.checkpoints import metrics_text, name_of
from mstore.cli.pages.programs import program_page
from mstore.cli.pages.versions import id_of, version_facts
from mstore.cli.text import Table, moment, shape, short, size
from mstore.domain.programs import Program
from mstore.domain.records import Checkpoint, Version
from mstore.domain.tensors import Tensor, TensorTable


def show_page(record: Checkpoint | Version | Program, table: TensorTable | None) -> Page:
    """Return the page of ``mstore show``; with a table, every tensor too."""
    if isinstance(record, Program):
        return program_page(record)
    document = record.to_json()
    blocks: list[Block] = []
    if isinstance(record, Checkpoint):
        identifier = record.id
        blocks.append(Line(f"checkpoint {name_of(record)}", "bold"))
        blocks += [Line(f"  {name:<9} {value}") for name, value in _facts(record) if value]
    else:
        identifier = id_of(record)
        blocks.append(Line(f"version {identifier}", "bold"))
        blocks += map(Line, _version(record))
    if table is not None:
        document["tensor_table"] = [_tensor(item) for item in table.values]
        rows = tuple(
            (item.full_name or item.name, item.dtype, shape(item.shape), size(item.size), item.name)
            for item in table.values
        )
        blocks.append(Table(("TENSOR", "DTYPE", "SHAPE", "SIZE", "KEY"), rows, frozenset({"SIZE"})))
    return Page(document, (identifier,), tuple(blocks))


def _facts(item: Checkpoint) -> Iterator[tuple[str, str]]:
    where = f"variable {item.step_variable}" if item.step_variable else item.step_source
    yield "id", item.id
    yield "step", f"{item.step} (from {where})"
    yield "metrics", metrics_text(item.metrics)
    yield "tags", " ".join(item.tags)
    yield "versions", " ".join(f"{item.model}:{number}" for number in item.versions)
    yield "tensors", f"{item.tensors}, {size(item.bytes)}, {size(item.stored_bytes)} stored"
    yield "format", item.format
    yield "source", item.source
    yield "builder", item.builder or ""
    yield "added", moment(item.added_at)
    yield "meta", " ".join(f"{name}={value}" for name, value in sorted(item.meta.items()))
    yield "note", item.note or ""
    yield "state", "superseded by other content of the same step" if item.superseded else ""
    yield (
        "pruned",
        f"{moment(item.pruned_at)}; mstore log {short(item.id)}" if item.pruned_at else "",
    )


def _version(item: Version) -> Iterator[str]:
    yield f"  from {item.model}/{item.run}@{item.step}, checkpoint {item.checkpoint}"
    yield from version_facts(item)
    yield f"  method {item.method}, program {item.program}"
    yield f"  digest {item.digest}"
    yield f"  made {moment(item.created_at)} with " + ", ".join(
        f"{name} {value}" for name, value in sorted(item.environment.items())
    )
    for name, value in sorted(item.builder.items()):
        if value is not None:
            yield f"  builder {name}: {value}"
    yield from (f"  warning: {text}" for text in item.warnings)
    yield from (f"  {file.sha256}  {file.path}" for file in item.files)


def _tensor(item: Tensor) -> dict[str, object]:
    return {
        "name": item.full_name or item.name,
        "key": item.name,
        "dtype": item.dtype,
        "shape": list(item.shape),
        "bytes": item.size,
        "crc32c": f"{item.crc32c:08x}",
    }
