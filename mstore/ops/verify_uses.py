"""Who needs an object: which checkpoints, versions and programs."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

import sqlalchemy as sa

from mstore.catalog import checkpoints, objects, programs, versions
from mstore.catalog.engine import reading
from mstore.errors import DamagedStoreError
from mstore.objects.packs import MOST_BASES
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
        example: id of its golden example, or None.
    """

    kind: Kind
    name: str
    id: str
    manifest: bytes
    record: bytes
    example: bytes | None = None


@dataclass
class Uses:
    """What the users of objects look like.

    Attributes:
        whole: how many of each kind have all they need.
        hurt: what is wrong with each of the others.
        placed: ids of all objects that packs hold.
        needed: id of an object that is missing or damaged to those that need it.
    """

    whole: dict[Kind, int] = field(default_factory=lambda: defaultdict(int))
    hurt: list[tuple[User, str]] = field(default_factory=list)
    placed: set[bytes] = field(default_factory=set)
    needed: dict[bytes, list[User]] = field(default_factory=lambda: defaultdict(list))


def users(connection: sa.Connection) -> Iterator[User]:
    """Yield all that is made of objects, the last added first."""
    rows = checkpoints.listing(connection, superseded=True)
    made = versions.find_versions(connection)
    known = programs.find_programs(connection)
    for row in rows:
        name = f"{row.checkpoint.model}/{row.checkpoint.run}@{row.checkpoint.step}"
        example = row.checkpoint.example and bytes.fromhex(row.checkpoint.example)
        own = (row.manifest, row.record, example or None)
        yield User("checkpoint", name, row.checkpoint.id, *own)
    for version in made:
        name = f"{version.version.model}:{version.version.version}"
        yield User("version", name, name, version.manifest, version.record)
    for program in known:
        name = f"{program.program.model} {program.program.id[:12]}"
        yield User("program", name, program.program.id, program.manifest, program.record)


def blame(context: Context, rotten: AbstractSet[bytes]) -> dict[bytes, bytes]:
    """Return the differences that cannot be read since a base is rotten or missing, and the base.

    Args:
        context: the store.
        rotten: damaged objects; differences among them are damaged themselves and left out.
    """
    with reading(context.engine) as connection:
        bases = objects.bases(connection)
        sound = objects.placed(connection) - rotten if bases else set()
    found = {key: _broken_base(key, bases, sound) for key in bases if key not in rotten}
    return {key: base for key, base in found.items() if base is not None}


def _broken_base(
    key: bytes, bases: Mapping[bytes, bytes], sound: AbstractSet[bytes]
) -> bytes | None:
    base = bases.get(key)
    for _ in range(MOST_BASES):
        if base is None or base not in sound:
            return base
        base = bases.get(base)
    return base


def find_uses(context: Context, bad: Mapping[bytes, str], suspect: AbstractSet[bytes]) -> Uses:
    """Find out what every checkpoint, version and program needs.

    Others may write meanwhile: who is there and what is there are read from one state of the
    catalog, and again before anything is said to be missing.

    Args:
        context: the store.
        bad: damaged objects, and the pack in which they are; elsewhere they are sound.
        suspect: objects that are sound themselves and whose users are asked for all the same.
    """
    uses = _find_uses(context, bad, suspect)
    return _find_uses(context, bad, suspect) if uses.hurt else uses


def _find_uses(context: Context, bad: Mapping[bytes, str], suspect: AbstractSet[bytes]) -> Uses:
    with reading(context.engine) as connection:
        everyone = list(users(connection))
        placed = objects.placed(connection)
        at_home = {key for key in bad if bad[key] in objects.packs_of(connection, [key])}
    sound = placed - at_home
    uses = Uses(placed=placed)
    for user in everyone:
        reason, wanted = _wanted(context, user, sound)
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


def _wanted(context: Context, user: User, sound: AbstractSet[bytes]) -> tuple[str, set[bytes]]:
    """Return why not all is known of what a user needs, or an empty text; and what is."""
    wanted = {user.manifest, user.record} | ({user.example} if user.example else set())
    if user.manifest not in sound:
        return f"its manifest {user.manifest.hex()} is damaged or missing", wanted
    try:
        return "", wanted | context.manifest(user.manifest).chunks()
    except DamagedStoreError as error:
        return error.message, wanted
