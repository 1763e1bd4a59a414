"""Links the way an export does, on plain files: what the tests of programs share."""

from dataclasses import dataclass, replace
from pathlib import Path

from mstore.convert.dyeing import Traced, why_not_linkable
from mstore.convert.fingerprint import FILE_NAME as FINGERPRINT
from mstore.convert.fingerprint import make_reproducible, of_other_variables
from mstore.convert.request import TraceRequest
from mstore.convert.template import linked_table, template_of
from mstore.convert.trace import trace
from mstore.domain.tensors import OBJECT_GRAPH_KEY
from mstore.formats.bundle_writer import encode_index
from mstore.formats.saved_model import variables_prefix
from mstore.formats.tensor_bundle import (
    BundleFiles,
    read_index,
    read_table,
    read_tensor,
    shard_name,
)
from tests.tf.exporting import BUILDERS, LIMIT


@dataclass(frozen=True)
class Program:
    """A traced export, and why it must not be linked; None where it may."""

    traced: Traced
    reason: str | None

    @property
    def path(self) -> Path:
        return self.traced.request.output

    def link(self, prefix: Path) -> dict[str, bytes]:
        """Return the files of the version that linking makes of another checkpoint."""
        bundle = variables_prefix(self.path)
        variables, trained = read_index(bundle), read_table(prefix)
        template = template_of(variables, self.traced.result.sources)
        table = linked_table(template, trained)
        index = encode_index(table)
        data = dict.fromkeys(range(table.num_shards), b"")
        for slot in template.slots:
            source = None if slot.source is None else trained.get(slot.source)
            if source is None:
                graph = variables.get(OBJECT_GRAPH_KEY)
                assert graph is not None
                data[slot.tensor.shard] += read_tensor(bundle, variables, graph)
            else:
                data[slot.tensor.shard] += read_tensor(prefix, trained, source)
        files = {
            name: content
            for name, content in contents(self.path).items()
            if not name.startswith("variables/")
        }
        files[FINGERPRINT] = of_other_variables(files[FINGERPRINT], index)
        files["variables/variables.index"] = index
        for shard, raw in data.items():
            files[shard_name("variables/variables", shard, table.num_shards)] = raw
        return files


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in directory.rglob("*")
        if file.is_file()
    }


def request(prefix: Path, output: Path, builder: str, **options: object) -> TraceRequest:
    """Return a request to convert that ends when the SavedModel is written."""
    if not builder.startswith("/"):
        builder = f"{BUILDERS}/{builder}"
    options.setdefault("search_path", output.parent)
    return TraceRequest(prefix, output, builder, dyed=True, **options)  # type: ignore[arg-type]


def traced(prefix: Path, output: Path, builder: str, **options: object) -> Traced:
    """Export without running the result."""
    asked = request(prefix, output, builder, **options)
    result = trace(asked, timeout=LIMIT)
    make_reproducible(output)
    return Traced(replace(asked, dyed=False), result, BundleFiles(prefix))


def learned(prefix: Path, directory: Path, builder: str, **options: object) -> Program:
    """Export a checkpoint and find out whether others can be linked with its program."""
    done = traced(prefix, directory / "out", builder, **options)
    work = directory / "dyed"
    work.mkdir()
    return Program(done, why_not_linkable(done, work, timeout=LIMIT))
