"""Watches a serving directory as model servers do, and says what no server may ever see.

Two servers by `tests.serving.rules` look at the directory: one at every moment it is shown, which
is each step of whoever changes it, and one only now and then, as real ones do. What loads a version
is a comparison of all its files with what the store has on record.
"""

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tests.serving.rules import ConfigError, ModelConfig, Policy, Rules, version_number
from tests.serving.server_configs import ParseError, parse

Files = Mapping[str, str]
"""Path to SHA-256."""


class LoadError(Exception):
    """A version cannot be loaded: it is not what it must be."""


class Oracle:
    """What has been seen of one base path.

    Attributes:
        violations: what no server may see, in words; the first is the one that counts.
        looks: how many moments were looked at.
        served: the versions that were live, in order.
    """

    def __init__(
        self,
        base: Path,
        record: Callable[[int], Files | None],
        seed: int,
        config: Path | None = None,
    ) -> None:
        """Watch a base path.

        Args:
            base: the directory.
            record: gives the files of a version, None if there is none.
            seed: of when the second server looks.
            config: the file that tells the server what to serve, where it does not take the
                highest number. There is one server then: one that looks late at labels that
                somebody said were safe to move is lost, and that is not what is tested.
        """
        self.base = base
        self.violations: list[str] = []
        self.looks = 0
        self.served: list[int] = []
        self._record = record
        self._known: dict[int, Files] = {}
        self._hashes: dict[tuple[int, int, int], str] = {}
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._file, self._text = config, ""
        self._config = ModelConfig("m", base, Policy("latest" if config is None else "specific"))
        self._eager, self._lazy = self._server(), self._server()

    def _server(self) -> Rules:
        return Rules(self._load, [replace(self._config, labels={})])

    def restart(self) -> None:
        """Let the servers start anew: they come up only if what is there loads."""
        had = bool(self._eager.status("m")) and self._live(self._eager) is not None
        self._eager, self._lazy = self._server(), self._server()
        self._eager.poll()
        self._configure(self._config)
        if had and self._live(self._eager) is None:
            self.violations.append("a server that starts now has nothing to serve")

    def look(self, moment: str) -> None:
        """Look at the directory."""
        self.looks += 1
        before = len(self.violations)
        self._ensure_whole()
        self._poll(self._eager)
        if self._file is not None:
            self._read(self._file)
        elif self._random.random() < 0.05:
            self._poll(self._lazy)
        self.violations[before:] = [f"{text} (at: {moment})" for text in self.violations[before:]]

    def _read(self, file: Path) -> None:
        """Look at the config file, and let the server do what it says."""
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if text == self._text:
            return
        if not text:
            self.violations.append("the config file is gone")
        self._text = text
        try:
            found = [config for config in parse(text) if config.name == "m"]
        except ParseError as error:
            self.violations.append(f"the config file cannot be read: {error}")
            return
        if found:
            self._configure(found[0])

    def _configure(self, config: ModelConfig) -> None:
        if self._file is None:
            return
        self._config = config
        for number in {*config.policy.versions, *config.labels.values()}:
            try:
                self._load(self.base / str(number))
            except LoadError as error:
                self.violations.append(f"the config names {number}, which is not whole: {error}")
        try:
            self._eager.configure([config])
        except ConfigError as error:
            self.violations.append(f"the server refuses the config: {error}")
        self._poll(self._eager)

    def _ensure_whole(self) -> None:
        try:
            names = [path.name for path in self.base.iterdir()]
        except FileNotFoundError:
            names = []
            if self.served:
                self.violations.append("the base path is gone")
        for name in names:
            number = version_number(name)
            if number is None:
                continue
            if name != str(number):
                self.violations.append(f"{name!r} is read as {number}")
            try:
                self._load(self.base / name)
            except LoadError as error:
                self.violations.append(f"{name} is not whole: {error}")

    def _poll(self, server: Rules) -> None:
        before = self._live(server)
        server.poll()
        live = self._live(server)
        failed = [n for n, (state, error) in server.status("m").items() if state == "END" and error]
        if failed:
            self.violations.append(f"a server could not load {failed}")
        if before is not None and live is None:
            self.violations.append(f"a server that served {before} has nothing to serve")
        if server is self._eager and live is not None and live != before:
            self.served.append(live)

    @staticmethod
    def _live(server: Rules) -> int | None:
        return server.find("m")  # type: ignore[no-any-return] # what _load returned

    def _load(self, path: Path) -> int:
        """Return the number of a version whose files are all that they must be."""
        number = version_number(path.name)
        assert number is not None
        expected = self._known.get(number)
        if expected is None:
            expected = self._record(number)
            if expected is None:
                raise LoadError("the store has no such version")
            # From now on the number stands for this content, whatever the store says later.
            self._known[number] = expected
        if not path.is_dir():
            raise LoadError("it is not there")
        found = {}
        for file in path.rglob("*"):
            if not file.is_dir():
                found[str(file.relative_to(path))] = self._hash(file)
        if found != expected:
            differing = sorted(
                k for k in expected.keys() | found if expected.get(k) != found.get(k)
            )
            raise LoadError(f"{', '.join(differing)} differ from what {number} stands for")
        return number

    def _hash(self, path: Path) -> str:
        try:
            status = path.stat()
            key = (status.st_ino, status.st_mtime_ns, status.st_size)
            if key not in self._hashes:
                self._hashes[key] = hashlib.sha256(path.read_bytes()).hexdigest()
            return self._hashes[key]
        except OSError as error:
            raise LoadError(f"{path.name} cannot be read: {error.strerror}") from error
