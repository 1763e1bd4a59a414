"""Who needs an object: which checkpoints, versions and programs."""

from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

from mstore.catalog import checkpoints, programs, versions
from mstore.catalog.engine import reading
from mstore.errors import DamagedStoreError
from mstore.ops.context import Context

Kind = Literal["checkpoint", "version", "program"]


@dataclass(frozen=True, slots=True)
class User:
    """Something that is made of objects.

    Attributes:
        kind: what it is.
        name: reference to it, as people write it.
        id: its id; of a version, the reference.
        manifest: id of its manifest.
        record: id of its record.
    """

    kind: Kind
    name: str
    id: str
    manifest: bytes
    record: bytes


@dataclass
class Uses:
    """What the users of objects look like.

    Attributes:
        whole: how many of each kind have all they need.
        hurt: what is wrong with each of the others.
        needed: id of an object that is missing or damaged to those that need it.
    """

    whole: dict[Kind, int] = field(default_factory=lambda: defaultdict(int))
    hurt: list[tuple[User, str]] = field(default_factory=list)
    needed: dict[bytes, list[User]] = field(default_factory=lambda: defaultdict(list))


def users(context: Context) -> Iterator[User]:
    """Yield all that is made of objects, the last added first."""
    with reading(context.engine) as connection:
        rows = checkpoints.listing(connection, superseded=True)
        made = versions.find_versions(connection)
        known = programs.find_programs(connection)
    for row in rows:
        name = f"{row.checkpoint.model}/{row.checkpoint.run}@{row.checkpoint.step}"
        yield User("checkpoint", name, row.checkpoint.id, row.manifest, row.record)
    for version in made:
        name = f"{version.version.model}:{version.version.version}"
        yield User("version", name, name, version.manifest, version.record)
    for program in known:
        name = f"{program.program.model} {program.program.id[:12]}"
        yield User("program", name, program.program.id, program.manifest, program.record)


def find_uses(context: Context, sound: AbstractSet[bytes], suspect: AbstractSet[bytes]) -> Uses:
    """Find out what every checkpoint, version and program needs.

    Args:
        context: the store.
        sound: ids of all objects that are as they should be.
        suspect: objects that are sound themselves and whose users are asked for all the same.
    """
    uses = Uses()
    for user in users(context):
        wanted = {user.manifest, user.record}
        reason = ""
        if user.manifest not in sound:
            reason = f"its manifest {user.manifest.hex()} is damaged or missing"
        else:
            try:
                wanted |= context.manifest(user.manifest).chunks()
            except DamagedStoreError as error:
                reason = error.message
        missing = sorted(wanted - sound)
        for key in [*missing, *(wanted & suspect)]:
            uses.needed[key].append(user)
        if missing and not reason:
            names = ", ".join(key.hex() for key in missing[:3])
            reason = f"{len(missing)} of its objects are damaged or missing: {names}"
        if reason:
            uses.hurt.append((user, reason))
        else:
            uses.whole[user.kind] += 1
    return uses
