"""A model of what a disk holds when the power goes: names and bytes as of their last fsync.

SQLite makes its own files durable; they are taken as they are.
"""

from dataclasses import dataclass, field
from pathlib import Path

_CATALOG = "catalog.db"


@dataclass
class Memory:
    """Remembers of each file and directory, by inode, what is durable of it.

    Attributes:
        root: what is watched; all that is in it at the beginning is durable.
        names: inode of a directory to the names in it and their inodes.
        content: inode of a file to its bytes.
        last: the step that was announced last, and is made when the next one is.
    """

    root: Path
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    content: dict[int, bytes] = field(default_factory=dict)
    last: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        """Take all that is there as durable."""
        for path in [self.root, *self.root.rglob("*")]:
            self._keep_directory(path) if path.is_dir() else self._keep_file(path)

    def _keep_directory(self, path: Path) -> None:
        self.names[path.stat().st_ino] = {
            child.name: child.stat().st_ino for child in path.iterdir()
        }

    def _keep_file(self, path: Path) -> None:
        self.content[path.stat().st_ino] = path.read_bytes()

    def hear(self, action: str, path: str) -> None:
        """Hear of a step; the one before it has been made by now."""
        done, where = self.last
        if done == "fsync":
            self._keep_file(Path(where))
        elif done == "fsync-directory":
            self._keep_directory(Path(where))
        self.last = (action, path)

    def write(self, target: Path, *, keep_names: bool) -> None:
        """Write what is left to ``target``; with ``keep_names`` only bytes are lost."""
        live = {path.stat().st_ino: path for path in [self.root, *self.root.rglob("*")]}
        self._write(self.root.stat().st_ino, target, live, keep_names=keep_names)

    def _write(self, inode: int, target: Path, live: dict[int, Path], *, keep_names: bool) -> None:
        target.mkdir()
        now = self._now(inode, live)
        names = now if keep_names else dict(self.names.get(inode, {}))
        if _CATALOG in names:  # SQLite syncs the directory of its log
            names |= {name: now[name] for name in now if name == f"{_CATALOG}-wal"}
        for name, child in names.items():
            if child in self.names or (child in live and live[child].is_dir()):
                self._write(child, target / name, live, keep_names=keep_names)
            elif name != f"{_CATALOG}-shm":
                (target / name).write_bytes(self._left(name, child, live, keep_names=keep_names))
                if child in live:
                    (target / name).chmod(live[child].stat().st_mode & 0o777)

    @staticmethod
    def _now(inode: int, live: dict[int, Path]) -> dict[str, int]:
        if inode not in live:
            return {}
        return {child.name: child.stat().st_ino for child in live[inode].iterdir()}

    def _left(self, name: str, inode: int, live: dict[int, Path], *, keep_names: bool) -> bytes:
        now = live[inode].read_bytes() if inode in live else b""
        if name.startswith(_CATALOG) and now:
            return now
        durable = self.content.get(inode, b"")
        return durable + bytes(max(0, len(now) - len(durable))) if keep_names else durable
