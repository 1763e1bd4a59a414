"""TensorFlow Serving's own rules of what it serves, as a model that can be stepped.

Written from its sources, and not from ours: file_system_storage_path_source.cc (which versions are
aspired), aspired_versions_manager.cc and availability_preserving_policy.cc (what is loaded and
unloaded, and when), loader_harness.cc (retries), server_core.cc (configuration and labels). What
loads a version is handed in.
"""

import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*", re.ASCII)


@dataclass(frozen=True)
class Policy:
    """``latest`` with how many, ``specific`` with which, or ``all``."""

    kind: str = "latest"
    count: int = 1
    versions: tuple[int, ...] = ()


@dataclass(frozen=True)
class ModelConfig:
    """One entry of the server's configuration."""

    name: str
    base: Path
    policy: Policy = Policy()
    labels: Mapping[str, int] = field(default_factory=dict)


class ConfigError(Exception):
    """The server refuses a configuration."""


@dataclass
class Servable:
    """One version in the server's hands."""

    number: int
    path: Path
    state: str = "START"
    error: str = ""
    aspired: bool = True
    loaded: Any = None


def version_number(name: str) -> int | None:
    """Return what SimpleAtoi makes of a name."""
    match = _NUMBER.fullmatch(name)
    number = int(match[1]) if match else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def aspired(config: ModelConfig) -> dict[int, Path] | None:
    """Return the versions that the file system asks for; None where the base path is not there."""
    try:
        names = sorted(os.listdir(config.base))  # noqa: PTH208 - files too, as the server sees them
    except OSError:
        return None
    found: dict[int, Path] = {}
    for name in names:  # of two names for one number the last wins
        number = version_number(name)
        if number is not None and number >= 0:
            found[number] = config.base / name
    policy = config.policy
    if policy.kind == "all":
        return found
    if policy.kind == "specific":
        return {number: found[number] for number in policy.versions if number in found}
    return {number: found[number] for number in sorted(found)[-max(policy.count, 1) :]}


class Rules:
    """A model server, a step at a time.

    Attributes:
        states: model and version to the last state and error, those that are gone included.
        held: model to its versions by number.
        problems: what the server would have logged as a warning.
    """

    def __init__(
        self,
        load: Callable[[Path], Any],
        configs: Sequence[ModelConfig],
        *,
        retries: int = 0,
    ) -> None:
        """Start with a configuration; ``load`` raises what the loader would."""
        self._load = load
        self._retries = retries
        self._configs = {config.name: config for config in configs}
        self.labels: dict[str, dict[str, int]] = {c.name: {} for c in configs}
        self.held: dict[str, dict[int, Servable]] = {c.name: {} for c in configs}
        self.states: dict[tuple[str, int], tuple[str, str]] = {}
        self.problems: list[str] = []
        self._lock = threading.RLock()

    def configure(self, configs: Sequence[ModelConfig]) -> None:
        """Take another configuration, as ``ReloadConfig`` does: labels first, then models.

        Raises:
            ConfigError: a label names a version that is not available; nothing else is changed.
        """
        with self._lock:
            for config in configs:
                for label, number in config.labels.items():
                    found = self.held.get(config.name, {}).get(number)
                    if found is None or found.state != "AVAILABLE":
                        raise ConfigError(
                            f"Request to assign label {label} to version {number} of model "
                            f"{config.name}, which is not currently available for inference"
                        )
            self._configs = {config.name: config for config in configs}
            self.labels = {config.name: dict(config.labels) for config in configs}
            for name in self._configs:
                self.held.setdefault(name, {})

    def poll(self) -> None:
        """Look at the file system once, and do all that follows."""
        for name, config in list(self._configs.items()):
            wanted = aspired(config)
            if wanted is None:
                self.problems.append(f"Could not find base path {config.base}")
                break  # no model after this one is looked at either
            if not wanted:
                self.problems.append(f"No versions of servable {name} found under {config.base}")
            self._aspire(name, wanted)
        for name in list(self.held):
            if name not in self._configs:
                self._aspire(name, {})

    def _aspire(self, name: str, wanted: Mapping[int, Path]) -> None:
        held = self.held[name]
        for number, path in wanted.items():
            with self._lock:
                if number in held:  # compared by number alone; one that is leaving has to go first
                    continue
                servable = held[number] = Servable(number, path)
                self._set(name, servable, "START")
        for servable in held.values():
            servable.aspired = servable.number in wanted
        for servable in list(held.values()):
            if servable.aspired and servable.state == "START":
                self._start(name, servable)
        self._unload(name)

    def _start(self, name: str, servable: Servable) -> None:
        self._set(name, servable, "LOADING")
        error = ""
        for _ in range(self._retries + 1):
            try:
                servable.loaded, error = self._load(servable.path), ""
                break
            except Exception as exc:  # noqa: BLE001 - whatever the loader says
                error = str(exc)
        self._set(name, servable, "END" if error else "AVAILABLE", error)

    def _unload(self, name: str) -> None:
        """Unload what is not aspired, if something that is aspired is ready, or nothing is."""
        held = self.held[name]
        for servable in sorted(held.values(), key=lambda item: item.number):
            if servable.aspired:
                continue
            is_ready = servable.state == "AVAILABLE"
            others = [item for item in held.values() if item.aspired]
            spare = [i for i in held.values() if not i.aspired and i.state == "AVAILABLE"]
            covered = any(item.state == "AVAILABLE" for item in others)
            if is_ready and others and not covered and len(spare) == 1:
                continue
            with self._lock:
                self._set(name, servable, "UNLOADING")
                del held[servable.number]
                servable.loaded = None
                self._set(name, servable, "END", servable.error)

    def _set(self, name: str, servable: Servable, state: str, error: str = "") -> None:
        with self._lock:
            servable.state, servable.error = state, error
            self.states[name, servable.number] = (state, error)

    def status(self, name: str) -> dict[int, tuple[str, str]]:
        """Return state and error of each version that was ever held, by number."""
        with self._lock:
            return {n: state for (model, n), state in self.states.items() if model == name}

    def find(self, name: str, number: int | None = None, label: str | None = None) -> Any:
        """Return what was loaded: a version, that of a label, or the highest; None if not there."""
        with self._lock:
            if label is not None:
                number = self.labels.get(name, {}).get(label)
                if number is None:
                    return None
            ready = [i for i in self.held.get(name, {}).values() if i.state == "AVAILABLE"]
            if number is not None:
                ready = [item for item in ready if item.number == number]
            return max(ready, key=lambda item: item.number).loaded if ready else None
