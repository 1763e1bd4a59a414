"""What a model server's configuration says of a model, and how it is changed step by step."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One entry of a ``ModelServerConfig``.

    Attributes:
        name: the model's name on the server.
        base_path: where the server looks for its versions.
        policy: ``latest``, ``all`` or ``specific``; ``latest`` where nothing is said.
        versions: what ``specific`` names.
        labels: label to version.
        platform: its ``model_platform``, or what stands for it.
    """

    name: str
    base_path: str
    policy: str = "latest"
    versions: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    platform: str = "tensorflow"

    @property
    def named(self) -> frozenset[int]:
        """The versions that it names, which must be there."""
        return frozenset(self.versions) | frozenset(self.labels.values())


@dataclass(frozen=True, slots=True)
class Selection:
    """What an entry names of versions: ``versions`` under ``specific``, and labels."""

    versions: tuple[int, ...]
    labels: Mapping[str, int]


def selections(
    entry: ModelEntry, version: int, labels: Collection[str] = ()
) -> tuple[Selection, ...]:
    """Return the steps in which a server is led to another version, under ``specific``.

    First the new version beside the old ones with all labels where they are; when that is
    available, the ``labels`` on it, with the old ones still there; then the old ones that no label
    is on are left out. A server refuses a configuration that puts a label on a version that is not
    available, and then changes nothing at all (``ServerCore::ReloadConfig``).

    >>> entry = ModelEntry("m", "/m", "specific", (3,), {"stable": 3})
    >>> for step in selections(entry, 4, ["stable"]):
    ...     print(step.versions, dict(step.labels))
    (3, 4) {'stable': 3}
    (3, 4) {'stable': 4}
    (4,) {'stable': 4}
    """
    before = dict(entry.labels)
    after = {**before, **dict.fromkeys(labels, version)}
    wide = tuple(sorted({*entry.versions, version} | set(before.values())))
    narrow = tuple(sorted({version, *after.values()}))
    steps = [Selection(wide, before), Selection(wide, after), Selection(narrow, after)]
    made: list[Selection] = []
    for step in steps:
        if not made or made[-1] != step:
            made.append(step)
    return tuple(made)
