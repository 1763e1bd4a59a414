"""What is known of a builder without running it."""

import ast
import hashlib
import importlib.machinery
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mstore.errors import InputError, UsageError

_GIT_TIMEOUT = 10


@dataclass(frozen=True, slots=True)
class BuilderInfo:
    """Where a builder comes from.

    Attributes:
        spec: as given, ``FILE.py:NAME`` or ``package.module:NAME``, or one without a name.
        file: its source file, absolute.
        source_sha256: digest of that file's bytes.
        git_commit: the commit checked out where the file lies; None outside of a repository.
        git_dirty: whether tracked files of the repository differ from that commit, or the file
            is not tracked; None outside of a repository.
    """

    spec: str
    file: Path
    source_sha256: str
    git_commit: str | None
    git_dirty: bool | None


def describe(builder: str, search_path: Path, *, named: bool = True) -> BuilderInfo:
    """Find the builder's source without importing it.

    Args:
        builder: ``FILE.py:NAME`` or ``package.module:NAME``.
        search_path: directory for relative files, and where modules are looked for first.
        named: whether there must be a name; a file that holds its own architecture may only need
            the module that defines its custom classes.

    Raises:
        UsageError: if ``builder`` has no such form.
        InputError: if the file or module is not there, or does not define the name.
    """
    place, name = split(builder, named=named)
    file = _file(place, search_path.absolute())
    try:
        source = file.read_bytes()
    except OSError as exc:
        raise InputError(f"cannot read the builder's file {file}: {exc.strerror}") from exc
    if name:
        _require_name(source, name, file)
    commit = _git(file.parent, "rev-parse", "--verify", "HEAD")
    return BuilderInfo(
        spec=builder,
        file=file,
        source_sha256=hashlib.sha256(source).hexdigest(),
        git_commit=commit or None,
        git_dirty=_is_dirty(file) if commit else None,
    )


def source_digest(builder: str, search_path: Path) -> str | None:
    """Return the SHA-256 of the builder's file, None where the file is not there.

    Raises:
        UsageError: if ``builder`` has no such form.
    """
    place, _ = split(builder)
    try:
        return hashlib.sha256(_file(place, search_path.absolute()).read_bytes()).hexdigest()
    except (InputError, OSError):
        return None


def split(builder: str, *, named: bool = True) -> tuple[str, str]:
    """Return the file or module, and the name in it; ``""`` where there is none and need not be.

    Raises:
        UsageError: if ``builder`` is neither ``FILE.py:NAME`` nor ``package.module:NAME``.
    """
    place, colon, name = builder.rpartition(":")
    if not named and (not colon or is_file(builder)):
        place, name = builder, "_"
    parts = [] if is_file(place) else place.split(".")
    if not place or not name.isidentifier() or not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"cannot read the builder {builder!r}",
            hint="write it as FILE.py:NAME or package.module:NAME",
        )
    return place, "" if place == builder else name


def is_file(place: str) -> bool:
    """Return whether the part before the colon names a file and not a module."""
    return place.endswith(".py")


def _file(place: str, search_path: Path) -> Path:
    if is_file(place):
        return search_path / place
    # Importing a package runs its code, so the parents are looked up one by one instead.
    places: list[str] | None = [str(search_path), *sys.path]
    prefix = ""
    spec = None
    for part in place.split("."):
        prefix += part
        spec = importlib.machinery.PathFinder.find_spec(prefix, places)
        if spec is None:
            raise InputError(
                f"there is no module {prefix!r} for the builder {place!r}",
                hint=f"it is looked for in {search_path} and in what is installed",
            )
        places = list(spec.submodule_search_locations or ())
        prefix += "."
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise InputError(f"the builder's module {place!r} has no source file")
    return Path(spec.origin).absolute()


def _require_name(source: bytes, name: str, file: Path) -> None:
    try:
        tree = ast.parse(source, filename=str(file))
    except (SyntaxError, ValueError) as exc:
        line = f":{exc.lineno}" if isinstance(exc, SyntaxError) and exc.lineno else ""
        raise InputError(f"{file}{line} is not Python: {exc}") from exc
    except SystemError:
        # CPython 3.11 raises it where two threads parse at once (python/cpython#106905).
        # The name is then looked for where the builder is called.
        return
    names = _names(tree.body)
    if name not in names and "*" not in names:
        raise InputError(
            f"{file} defines no {name!r}",
            hint="it defines " + (", ".join(sorted(names)) if names else "nothing"),
        )


def _names(body: list[ast.stmt]) -> set[str]:
    """Return the names that the statements may bind; ``*`` where that cannot be known."""
    names: set[str] = set()
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add("*" if name == "__getattr__" else name)
            case ast.ClassDef(name=name):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names.update((alias.asname or alias.name).split(".")[0] for alias in aliases)
            case _:
                names.update(_bound_within(statement))
    return names


def _bound_within(statement: ast.stmt) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.stmt) and node is not statement:
            names |= _names([node])
    return names


def _is_dirty(file: Path) -> bool:
    changes = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    tracked = _git(file.parent, "ls-files", "--error-unmatch", "--", file.name)
    return bool(changes) or not tracked


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            ["git", "-C", str(directory), *arguments],  # noqa: S607 - the user's git
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=_GIT_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return done.stdout.decode("utf-8", "replace").strip()
