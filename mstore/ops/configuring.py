"""Targets with the policy ``specific``: a config file tells the server which versions to serve.

The file is only ever written as a whole, names only versions that are complete in the base path,
and moves a label only to a version that the server has said to serve.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from mstore import disk
from mstore.catalog.versions import VersionRow
from mstore.domain.model_configs import ModelEntry, Selection
from mstore.domain.places import Base
from mstore.domain.targets import Site
from mstore.errors import ConflictError, Error, InputError, PartialError
from mstore.ops.confirming import Watch
from mstore.serving.model_config import read, select, serialized
from mstore.serving.publish import numbers

_MODE = 0o644


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The config file of a target, as far as one model is concerned.

    Attributes:
        path: the file; it may not be there yet.
        base: the model's base path.
        model: its name.
    """

    path: Path
    base: Base
    model: str

    @classmethod
    def of(cls, site: Site, model: str) -> "ConfigFile | None":
        """Return the config file of a base path; None where its server takes the highest number."""
        target = site.target
        if target is None or target.policy != "specific" or target.config is None:
            return None
        return cls(Path(target.config), site.base, model)

    def text(self) -> str:
        """Return what the file holds, the empty string where there is none.

        Raises:
            InputError: it is no text.
        """
        with disk.os_errors(f"the config {self.path} cannot be read"):
            try:
                return self.path.read_bytes().decode()
            except FileNotFoundError:
                return ""
            except UnicodeDecodeError as error:
                raise InputError(f"{self.path} is no text: {error}") from error

    def entry(self) -> ModelEntry:
        """Return the model's entry, an empty one where there is none.

        Raises:
            InputError: the file is no ModelServerConfig.
        """
        try:
            found = read(self.text()).get(self.model)
        except InputError as error:
            raise self._named(error) from error
        return found or ModelEntry(self.model, str(self.base), "specific")

    def changed(self, chosen: Selection, coming: int | None = None) -> str:
        """Return the file's text with what is chosen.

        Args:
            chosen: what the entry shall name.
            coming: a version that need not be in the base path yet.

        Raises:
            InputError: the file is no ModelServerConfig.
            ConflictError: it cannot be changed, or would name a version that is not there.
        """
        there = {*numbers(self.base), coming}
        gone = sorted({*chosen.versions, *chosen.labels.values()} - there)
        if gone:
            raise ConflictError(
                f"{self.path} would name {', '.join(map(str, gone))} of {self.model}, and "
                f"{self.base} does not have it",
                hint="take it out of the file by hand, or put it back: mstore promote",
            )
        try:
            return select(self.text(), self.model, str(self.base), chosen)
        except (InputError, ConflictError) as error:
            raise self._named(error) from error

    def choose(self, chosen: Selection) -> None:
        """Write what is chosen into the file; all that it names must be there.

        Raises:
            ConflictError: it would name a version that is not in the base path.
        """
        with disk.os_errors(f"the config {self.path} cannot be written"), self._lock():
            self._write(self.changed(chosen))

    def put_back(self, text: str, instead_of: str) -> None:
        """Write an earlier text again, unless somebody else has changed the file meanwhile."""
        with disk.os_errors(f"the config {self.path} cannot be written"), self._lock():
            if self.text() == instead_of:
                self._write(text)

    def _lock(self) -> AbstractContextManager[None]:
        # The base path itself is locked by whoever is at work there.
        parent = self.path.parent
        return nullcontext() if parent.resolve() == self.base else disk.locked(parent)

    def _write(self, text: str) -> None:
        if text == self.text():
            return
        path = self.path.resolve()  # a link stays one
        mode = path.stat().st_mode & 0o777 if path.exists() else _MODE
        with disk.work_directory(path.parent) as work:
            output = disk.NewFile(work / path.name, mode=mode)
            try:
                output.write(text.encode())
                output.sync()
            finally:
                output.close()
            disk.replace_file(work / path.name, path)

    def _named(self, error: Error) -> Error:
        error.args = (f"{self.path}: {error.message}",)
        error.message = error.args[0]
        error.hint = error.hint or "mend the file; nothing was changed"
        return error


def live_number(site: Site, model: str) -> int | None:
    """Return the version that a server of a base path gives clients that name none."""
    config = ConfigFile.of(site, model)
    there = numbers(site.base)
    if config is None:
        return max(there, default=None)
    return max(set(config.entry().versions) & there.keys(), default=None)


def lead(
    config: ConfigFile,
    steps: Sequence[Selection],
    watch: Watch | None,
    row: VersionRow,
    *,
    parity: bool = True,
) -> dict[str, object] | None:
    """Lead a server to a version, step by step; return what it says of it.

    Without a server to ask, a label is not moved to a version that the file did not name before.

    Raises:
        NotServedError: the server does not serve it; the file is as it was.
        PartialError: the label waits for the next call.
    """
    number = row.version.version
    if watch is None:
        entry = config.entry()
        moved = dict(steps[-1].labels) != dict(entry.labels)
        if moved and number not in entry.versions:
            config.choose(steps[0])
            raise PartialError(
                f"{config.path} names {number} of {config.model} now, and its labels are where "
                "they were: a server takes a label only for a version that it serves already",
                hint="when it does, run the same command again; with target add --server that "
                "is asked for",
            )
        config.choose(steps[-1])
        return None
    before = config.text()
    config.choose(steps[0])
    made = config.text()
    try:
        _reload(config, watch)
        served = watch.confirm(row, parity=parity)
    except Error:
        config.put_back(before, made)
        _reload(config, watch, insist=False)
        raise
    for step in steps[1:]:
        config.choose(step)
        _reload(config, watch)
    return served


def _reload(config: ConfigFile, watch: Watch, *, insist: bool = True) -> None:
    """Hand the config to the server where that can be done; else it has to look for itself."""
    data = serialized(config.text())
    if data is None:
        return
    try:
        watch.server.reload(data)
    except Error:
        if insist:
            raise
