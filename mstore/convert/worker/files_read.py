"""Which files of the user's the model is made from: Python code, vocabularies, anything it opens.

A program is only the same program as long as these are the same files.
"""

import hashlib
import os
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tensorflow.python.lib.io import file_io
from tensorflow.python.trackable import asset

from mstore.convert.worker.loading import is_own_code

_PACKAGE = Path(__file__).resolve().parents[2]
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/lib", "/run/")
_WRITING = ("w", "a", "x", "+")
_GENERATED = "__autograph_generated_file"
_BLOCK = 1 << 20


class FilesRead:
    """The files that were opened for reading from now on, through Python or through TensorFlow."""

    def __init__(self, leave_out: Iterable[Path]) -> None:
        """Begin to notice; there is no end, the process is disposable.

        Args:
            leave_out: files and directories that do not count.
        """
        self._paths: dict[str, None] = {}
        self._left_out = tuple(str(path) for path in (*leave_out, _PACKAGE, *_installed()))
        # Python's own calls, the import of modules included.
        sys.addaudithook(self._audit)
        # TensorFlow opens files beside Python.
        for kind in (file_io.FileIO, asset.Asset):
            kind.__init__ = self._noting(kind.__init__)

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file that is still there, by absolute path."""
        modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        self._note(*(name for name in modules if isinstance(name, str) and is_own_code(name)))
        found = {}
        for path in sorted(self._paths):
            try:
                if os.path.isfile(path):  # noqa: PTH113 - thousands of names
                    found[path] = _sha256(path)
            except OSError:
                continue
        return found

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open":
            return
        path, mode, flags = arguments
        writes = any(mark in mode for mark in _WRITING) if mode else flags & os.O_ACCMODE
        if isinstance(path, (str, bytes)) and not writes:
            self._note(os.fsdecode(path))

    def _noting(self, original: Callable[..., None]) -> Callable[..., None]:
        def create(thing: Any, *arguments: Any, **options: Any) -> None:
            path, mode = (*arguments, None, None)[:2]
            path = path if path is not None else options.get("name", options.get("path"))
            mode = str(options.get("mode", mode))
            if isinstance(path, (str, bytes, os.PathLike)) and not set(mode) & set(_WRITING):
                self._note(os.fsdecode(path))
            original(thing, *arguments, **options)

        return create

    def _note(self, *names: str) -> None:
        for name in names:
            path = os.path.abspath(name)  # noqa: PTH100 - no file is touched here
            if (
                not path.startswith((*_SYSTEM, *self._left_out))
                and not path.endswith((".pyc", ".so"))
                and _GENERATED not in path
            ):
                self._paths[path] = None


def _installed() -> set[str]:
    """Return the directories of Python itself and of what is installed."""
    return {
        *(path for path in sysconfig.get_paths().values() if path),
        *(path for path in sys.path if path.endswith(("site-packages", "dist-packages"))),
        sys.prefix,
        sys.base_prefix,
    } - {"/", tempfile.gettempdir()}


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
