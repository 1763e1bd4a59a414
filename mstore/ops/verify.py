"""Verify the store: its structure, every object, and what depends on them.

It changes nothing but the list of objects that are not to be relied on.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from mstore.catalog import damage, journal, objects
from mstore.catalog.engine import reading, writing
from mstore.domain.records import Finding
from mstore.domain.upkeep import Damage, VerifyReport
from mstore.errors import InputError, SystemIOError, UsageError
from mstore.objects.packs import Entry, pack_path
from mstore.ops import verify_state
from mstore.ops.context import Context, now
from mstore.ops.verify_packs import KINDS, BadObject, check_objects, why_badly_built
from mstore.ops.verify_uses import User, Uses, blame, find_uses

_SAVE_AFTER = 1 << 28
"""Bytes read before it is written down how far it came."""

_SUSPECT = "the index of its pack is damaged"


def verify(
    context: Context, *, subset: tuple[int, int] = (1, 1), resume: bool = False
) -> VerifyReport:
    """Check the structure of all, and read the packs of a subset.

    Args:
        context: the store.
        subset: ``(n, t)``: of the packs, spread over ``t`` equal parts by name, the ``n``-th.
        resume: go on where one of the same subset was stopped.

    Raises:
        DamagedStoreError: the catalog itself cannot be read.
        UsageError: there is no such subset.
    """
    if not 1 <= subset[0] <= subset[1]:
        raise UsageError(f"a subset is N/T with N from 1 to T, not {subset[0]}/{subset[1]}")
    return _Verification(context, subset).run(resume=resume)


def in_subset(name: str, subset: tuple[int, int]) -> bool:
    """Return whether a pack belongs to the ``n``-th of ``t`` parts."""
    return int(name[:8], 16) % subset[1] == subset[0] - 1


@dataclass
class _Verification:
    context: Context
    subset: tuple[int, int]
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    badly_built: dict[str, str] = field(default_factory=dict)
    bad: dict[bytes, BadObject] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"packs": 0, "objects": 0, "bytes": 0})
    healthy: set[bytes] = field(default_factory=set)

    def run(self, *, resume: bool) -> VerifyReport:
        with reading(self.context.engine) as connection:
            packs = sorted(objects.all_packs(connection))
            noted = damage.noted(connection)
            self._check_catalog(connection)
        for name, size in packs:
            self._check_structure(name, size)
        try:
            self._read(packs, resume=resume)
        finally:
            self._blame_bases(noted)
            self._write_down(noted)
        self._remember(set(noted) - self.healthy - set(self.bad), noted)
        bad = {key: item.pack for key, item in self.bad.items()}
        uses = find_uses(self.context, bad, set(self._suspects()))
        self._find_strays({name for name, _ in packs})
        return self._report(uses)

    def _check_catalog(self, connection: sa.Connection) -> None:
        for (line,) in connection.exec_driver_sql("PRAGMA quick_check"):
            if line != "ok":
                self.findings.append(Finding("catalog", "catalog.db", str(line)))
        for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            detail = f"row {row[1]} refers to a missing row of {row[2]}"
            self.findings.append(Finding("catalog", str(row[0]), detail))
        reason = journal.why_not_whole(connection, self.context.root)
        if reason:
            self.findings.append(Finding("ledger", journal.FILE, reason))

    def _check_structure(self, name: str, size: int) -> None:
        reason = why_badly_built(self.context.packs, name, size, self._expected(name))
        # Somebody may have put its objects into another pack meanwhile.
        if reason and self._is_there(name):
            self.badly_built[name] = reason
            self.findings.append(Finding("pack", name, reason))

    def _read(self, packs: Sequence[tuple[str, int]], *, resume: bool) -> None:
        """Read the packs of the subset in the order of their names."""
        state = verify_state.load(self.context, self.subset) if resume else None
        after = ""
        if state is not None:
            after = str(state["after"])
            self.counts = {key: int(state[key]) for key in self.counts}
        wanted = [pack for pack in packs if in_subset(pack[0], self.subset) and pack[0] > after]
        self.context.progress.start("verifying", sum(size for _, size in wanted))
        saved, done = self.counts["bytes"], dict(self.counts)
        try:
            for name, _ in wanted:
                self._check_data(name)
                after, done = name, dict(self.counts)
                if self.counts["bytes"] - saved > _SAVE_AFTER:
                    saved = self.counts["bytes"]
                    self._save(after, done)
        except KeyboardInterrupt:
            self._save(after, done)
            raise
        finally:
            self.context.progress.finish()
        if state is not None or saved:
            verify_state.clear(self.context)

    def _save(self, after: str, counts: Mapping[str, int]) -> None:
        with suppress(SystemIOError, OSError):  # a store that may only be read
            verify_state.save(self.context, self.subset, after, counts)

    def _check_data(self, name: str) -> None:
        expected = self._expected(name)
        self.counts["packs"] += 1
        counts = self.counts
        advance = self.context.progress.advance
        for found in check_objects(self.context.packs, name, expected, advance):
            counts["objects"] += 1
            entry = found if isinstance(found, Entry) else found.entry
            counts["bytes"] += entry.stored
            if isinstance(found, Entry):
                if entry.id in expected:
                    self.healthy.add(entry.id)
            elif not found.placed:
                detail = f"a copy in pack {name} that nobody reads is damaged; harmless"
                self.notes.append(Finding("unused-object", entry.id.hex(), detail))
            elif entry.id in self._expected(name):
                self.bad[entry.id] = found
                if not self._is_lost(name):
                    self.findings.append(Finding("object", entry.id.hex(), found.detail))

    def _expected(self, name: str) -> dict[bytes, objects.ObjectRow]:
        with reading(self.context.engine) as connection:
            return objects.of_pack(connection, name)

    def _is_there(self, name: str) -> bool:
        with reading(self.context.engine) as connection:
            return name in {known for known, _ in objects.all_packs(connection)}

    def _is_lost(self, name: str) -> bool:
        """Return whether the whole pack is missing, which is said once."""
        return not pack_path(self.context.packs, name).exists()

    def _suspects(self) -> dict[bytes, str]:
        """Return the objects of badly built packs that are sound themselves."""
        return {
            key: name
            for name in self.badly_built
            for key in self._expected(name)
            if key not in self.bad
        }

    def _remember(self, keys: AbstractSet[bytes], noted: Mapping[bytes, str]) -> None:
        """Count objects that were found damaged earlier and not read now."""
        for key, (pack, entry) in self.context.locate(sorted(keys)).items():
            if noted[key] != _SUSPECT:
                self.bad[key] = BadObject(pack, entry, noted[key], placed=True)
                self.findings.append(Finding("object", key.hex(), noted[key]))

    def _blame_bases(self, noted: Mapping[bytes, str]) -> None:
        """Count differences as damaged where one of their bases is damaged or missing."""
        blamed = blame(self.context, set(self.bad) | (set(noted) - self.healthy))
        for key, (pack, entry) in self.context.locate(sorted(blamed)).items():
            base = blamed[key].hex()
            detail = f"object {base}, which it is a difference to, is damaged or missing"
            self.healthy.discard(key)
            self.bad[key] = BadObject(pack, entry, detail, placed=True, base=base)
            self.findings.append(Finding("object", key.hex(), detail))

    def _write_down(self, noted: Mapping[bytes, str]) -> None:
        """Say what is not to be relied on, so that it is written again when somebody has it."""
        suspects = self._suspects()
        found = {key: item.detail for key, item in self.bad.items()}
        found |= dict.fromkeys(suspects, _SUSPECT)
        fresh = {key: detail for key, detail in found.items() if key not in noted}
        cured = (set(noted) & self.healthy) - set(suspects)
        if fresh or cured:
            with suppress(SystemIOError), writing(self.context.engine) as connection:
                damage.note(connection, fresh, now())
                damage.forget(connection, cured)

    def _find_strays(self, known: set[str]) -> None:
        """Note packs that the catalog does not know: an add that was interrupted leaves them."""
        try:
            found = {path.stem: path for path in self.context.packs.glob("*/*.pack")}
        except OSError as error:
            raise InputError(f"{self.context.packs} cannot be listed: {error.strerror}") from error
        for name in sorted(set(found) - known):
            if not self._is_there(name):
                detail = f"{found[name].stat().st_size} bytes that nothing refers to; harmless"
                self.notes.append(Finding("unreferenced-pack", name, detail))

    def _report(self, uses: Uses) -> VerifyReport:
        hurt = [Finding(u.kind, _subject(u), reason) for u, reason in uses.hurt]
        damaged = [
            _damage(key.hex(), KINDS.get(item.entry.kind, "record"), item, uses.needed[key])
            for key, item in sorted(self.bad.items())
        ]
        damaged += [
            _missing(key, needed)
            for key, needed in sorted(uses.needed.items())
            if key not in self.bad and key not in uses.placed
        ]
        damaged += [self._pack_damage(name, uses) for name in sorted(self.badly_built)]
        return VerifyReport(
            packs=self.counts["packs"],
            objects=self.counts["objects"],
            bytes=self.counts["bytes"],
            checkpoints=uses.whole["checkpoint"],
            versions=uses.whole["version"],
            findings=(*self.findings, *hurt),
            notes=tuple(self.notes),
            damaged=tuple(damaged),
            advice=self._advice(uses),
            subset=self.subset,
        )

    def _pack_damage(self, name: str, uses: Uses) -> Damage:
        needed = [user for key in self._expected(name) for user in uses.needed[key]]
        return Damage(name, "pack", name, 0, self.badly_built[name], **_names(needed))

    def _advice(self, uses: Uses) -> tuple[str, ...]:
        steps = []
        if any(finding.kind == "catalog" for finding in self.findings):
            steps.append("make the catalog again: mstore fsck --rebuild")
        if self.bad or self.badly_built or uses.hurt:
            steps.append(
                "take good copies from where the files still are: mstore fsck --repair "
                "(with --from, from another store)"
            )
            steps.append("or add the same files again: mstore add PATH --model NAME")
        elif any(finding.kind == "ledger" for finding in self.findings):
            steps.append("begin the ledger anew: mstore fsck --repair")
        return tuple(steps)


def _subject(user: User) -> str:
    return f"{user.name} ({user.id})" if user.kind == "checkpoint" else user.name


def _damage(id_: str, kind: str, item: BadObject, needed: Sequence[User]) -> Damage:
    found = Damage(id_, kind, item.pack, item.entry.offset, item.detail, **_names(needed))
    return replace(found, base=item.base)


def _missing(key: bytes, needed: Sequence[User]) -> Damage:
    """Return what is known of an object that no pack holds: what it is to those that need it."""
    kind = "chunk"
    if any(user.manifest == key for user in needed):
        kind = "manifest"
    elif any(user.record == key for user in needed):
        kind = "record"
    return Damage(key.hex(), kind, "", 0, "it is in no pack", **_names(needed))


def _names(needed: Sequence[User]) -> dict[str, Any]:
    return {
        f"{kind}s": tuple(sorted({user.id for user in needed if user.kind == kind}))
        for kind in ("checkpoint", "version", "program")
    }
