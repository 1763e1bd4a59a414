"""Targets: serving directories that are looked after, and what was in them when."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mstore.domain.places import Base
from mstore.domain.records import Deployment, Json

Policy = Literal["latest", "specific"]

PRESENT: Mapping[str, bool] = {
    "promoted": True,
    "restored": True,
    "rolled-back": False,
    "retired": False,
    "failed": False,
}
"""Event of a deployment to whether the version is in the directory after it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A serving directory under a name.

    Attributes:
        name: what people call it.
        base: the directory, absolute.
        paths: model to its base path: ``base`` itself where it is the only one, else below it.
        policy: ``latest``, or ``specific`` where the file ``config`` names the versions.
        config: path of the server's ``models.config``, or None.
        keep: how many versions stay in the directory, or None for all.
        server: ``HOST:PORT``, or None.
        created_at: time, ISO 8601 in UTC.
    """

    name: str
    base: str
    paths: Mapping[str, str]
    policy: Policy
    config: str | None
    keep: int | None
    server: str | None
    created_at: str

    def to_json(self) -> Json:
        """Return the JSON object."""
        return {
            "target": self.name,
            "base": self.base,
            "models": dict(sorted(self.paths.items())),
            "policy": self.policy,
            "config": self.config,
            "keep": self.keep,
            "server": self.server,
            "created_at": self.created_at,
        }


@dataclass(frozen=True, slots=True)
class Site:
    """The base path of one model.

    Attributes:
        base: the directory, resolved; or the prefix in a bucket.
        name: the target's name, or the directory itself.
        target: the target, or None for a plain directory.
    """

    base: Base
    name: str
    target: Target | None

    def directory(self, number: int) -> Base:
        """Return where a version is."""
        return self.base / str(number)

    @property
    def policy(self) -> Policy:
        """How its server chooses what to serve."""
        return "latest" if self.target is None else self.target.policy


@dataclass(frozen=True, slots=True)
class Rollback:
    """An earlier version made the live one again.

    Attributes:
        target: name of the target, or its directory.
        path: directory of the version that is live now.
        model: name of the model.
        version: its number.
        before: the number that was live until then.
        restored: whether its files had to be put there again.
        removed: the versions that left, in order.
        at: time, ISO 8601 in UTC.
        by: user and host.
        message: why, or None.
        served: what the target's server says since, or None where it was not asked.
        way: ``delete`` where the higher numbers left, ``config`` where the config file names the
            earlier version.
    """

    target: str
    path: str
    model: str
    version: int
    before: int
    restored: bool
    removed: tuple[int, ...]
    at: str
    by: str
    message: str | None
    served: Mapping[str, object] | None = None
    way: Literal["delete", "config"] = "delete"

    def to_json(self) -> Json:
        """Return the JSON object: a deployment, and what was done for it."""
        return {
            "target": self.target,
            "path": self.path,
            "model": self.model,
            "version": self.version,
            "event": "rolled-back" if self.way == "delete" else "restored",
            "at": self.at,
            "by": self.by,
            "message": self.message,
            "way": self.way,
            "from": self.before,
            "restored": self.restored,
            "removed": list(self.removed),
            "served": None if self.served is None else dict(self.served),
        }


@dataclass(frozen=True, slots=True)
class Placed:
    """What the ledger says was in a base path at some time.

    Attributes:
        present: version to the event that put it there.
        live: the version that a server gave, or None: the highest, or under ``specific`` the one
            that was chosen last.
    """

    present: Mapping[int, Deployment]
    live: int | None


@dataclass(frozen=True, slots=True)
class TargetState:
    """A base path of a target and what the ledger says is in it.

    Attributes:
        site: the base path.
        model: the model that it is for, or None for a plain directory.
        placed: what is in it.
    """

    site: Site
    model: str | None
    placed: Placed


def choices(deployments: Iterable[Deployment]) -> list[int]:
    """Return the versions to go back to under ``specific``, the one that is live last.

    A promotion comes on top; going back takes off what was on top, and what came after the version
    gone back to, so that going back twice does not lead to what was left.

    Args:
        deployments: events of one base path, the first first.
    """
    found: list[int] = []
    for item in deployments:
        if item.event == "restored":
            del found[-1:]
            if item.version in found:
                del found[found.index(item.version) :]
        if PRESENT[item.event] and found[-1:] != [item.version]:
            found.append(item.version)
        elif item.event == "failed":
            found = [number for number in found if number != item.version]
    return found


def replay(
    deployments: Iterable[Deployment], *, until: str | None = None, policy: Policy = "latest"
) -> Placed:
    """Return what was in a base path after its events.

    Args:
        deployments: events of one base path, the first first; their times never go back.
        until: time, ISO 8601 in UTC with microseconds; later events do not count.
        policy: how its server chooses what to serve.
    """
    present: dict[int, Deployment] = {}
    for item in deployments:
        if until is not None and item.at > until:
            break
        present.pop(item.version, None)  # what comes again comes last
        if PRESENT[item.event]:
            present[item.version] = item
    if policy == "specific":
        return Placed(present, next(reversed(present), None))
    return Placed(present, max(present, default=None))
