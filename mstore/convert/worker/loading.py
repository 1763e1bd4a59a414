"""Imports the user's builder and calls it."""

import contextlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mstore.convert.builders import is_file, split
from mstore.convert.request import TraceRequest
from mstore.errors import BuilderError, Error, InputError, UsageError
from mstore.servable import Servable

_FILE_MODULE = "mstore_builder"
_PACKAGE = Path(__file__).resolve().parents[2]


def load_builder(request: TraceRequest) -> Callable[..., Any]:
    """Import the file or module and return the callable.

    Raises:
        InputError: if the request names no builder.
        BuilderError: if the import raises, or the name is not callable.
    """
    spec = require_builder(request)
    _, name = split(spec)
    return named_builder(import_builder(request), name, spec)


def require_builder(request: TraceRequest) -> str:
    """Return the builder that the request names.

    Raises:
        InputError: if it names none.
    """
    if request.builder is None:
        raise InputError(
            f"the checkpoint {request.checkpoint.name} does not say how its model is built",
            hint="give what builds it: --builder FILE.py:FUNCTION",
        )
    return request.builder


def import_builder(request: TraceRequest) -> ModuleType:
    """Import the file or module of the builder.

    Raises:
        BuilderError: if the import raises.
    """
    spec = require_builder(request)
    place, _ = split(spec, named=False)
    with users_code(f"importing the builder {spec}", request):
        if is_file(place):
            return _import_file(request.search_path / place, request.search_path)
        sys.path.insert(0, str(request.search_path))
        return importlib.import_module(place)


def named_builder(module: ModuleType, name: str, spec: str) -> Callable[..., Any]:
    """Return what the name is in the module.

    Raises:
        BuilderError: if it is not callable.
    """
    builder = getattr(module, name, None)
    if not callable(builder):
        raise BuilderError(
            f"{spec} is {type(builder).__name__}, not something to call",
            hint="name a function without required arguments that returns the model",
        )
    return builder  # type: ignore[no-any-return]


def _import_file(file: Path, search_path: Path) -> ModuleType:
    # As `python FILE.py` does, the file's directory comes first; the directory that mstore was
    # started in comes last, for projects that are run from their root.
    sys.path.insert(0, str(file.parent))
    sys.path.append(str(search_path))
    spec = importlib.util.spec_from_file_location(_FILE_MODULE, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_FILE_MODULE] = module
    spec.loader.exec_module(module)
    return module


def call_builder(builder: Callable[..., Any], request: TraceRequest) -> Servable:
    """Call the builder and return what it made, as a ``Servable``.

    Raises:
        BuilderError: if it raises or exits, or does not return a model.
        UsageError: if an argument does not fit its annotation.
    """
    built = run_builder(builder, request)
    return built if isinstance(built, Servable) else Servable(built)


def run_builder(builder: Callable[..., Any], request: TraceRequest) -> Any:
    """Call the builder and return whatever it returns.

    Raises:
        BuilderError: if it raises or exits.
        UsageError: if an argument does not fit its annotation.
    """
    arguments = _convert(builder, request.builder_args)
    with users_code(f"the builder {request.builder}", request):
        return builder(**arguments)


def _convert(builder: Callable[..., Any], arguments: Mapping[str, str]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(builder).parameters
    except (TypeError, ValueError):
        return dict(arguments)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    converted: dict[str, Any] = {}
    for name, text in arguments.items():
        parameter = parameters.get(name)
        if parameter is None and not takes_any:
            raise UsageError(
                f"the builder takes no argument {name!r}",
                hint="it takes " + (", ".join(parameters) or "none"),
            )
        converted[name] = _value(name, text, parameter)
    return converted


def _value(name: str, text: str, parameter: inspect.Parameter | None) -> Any:
    if parameter is None:
        return text
    annotation = parameter.annotation
    wanted = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if wanted == "bool":
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() not in words:
            raise UsageError(f"the builder's argument {name} is true or false, not {text!r}")
        return words[text.lower()]
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "Path": Path}
    try:
        return kinds.get(wanted, str)(text)
    except ValueError as exc:
        raise UsageError(f"the builder's argument {name} is {wanted}, not {text!r}") from exc


@contextlib.contextmanager
def users_code(what: str, request: TraceRequest) -> Iterator[None]:
    """Turn whatever the user's code raises, ``sys.exit`` too, into a ``BuilderError``."""
    try:
        yield
    except Error:
        raise
    except SystemExit as exc:
        raise BuilderError(
            f"{what} called sys.exit({exc.code!r}){where(exc, request)}",
            hint="the builder must return the model; guard scripts with if __name__ == '__main__'",
        ) from exc
    except BaseException as exc:  # the border to the user's code
        traceback.print_exc()
        raise BuilderError(
            f"{what} raised {type(exc).__name__}: {exc}{where(exc, request)}",
            hint="call the builder in Python to debug it",
        ) from exc


def where(exc: BaseException, request: TraceRequest) -> str:
    """Return `` (file:line)`` of the innermost line of the user's own code, if there is one."""
    own = [
        frame for frame in traceback.extract_tb(exc.__traceback__) if is_own_code(frame.filename)
    ]
    if not own:
        return ""
    place = Path(own[-1].filename)
    with contextlib.suppress(ValueError):
        place = place.relative_to(request.search_path)
    return f" ({place}:{own[-1].lineno})"


def is_own_code(filename: str) -> bool:
    """Return whether a source file is the user's: not installed, not Python's, not mstore's."""
    libraries = ("site-packages", "dist-packages", str(_PACKAGE))
    return (
        not any(part in filename for part in libraries)
        and not filename.startswith("<")
        and Path(filename).suffix == ".py"
        and not Path(filename).is_relative_to(Path(inspect.__file__).parent)
    )
