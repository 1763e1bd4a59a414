"""Makes a Keras model: as its file says, or as a builder does."""

import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from mstore.convert.builders import split
from mstore.convert.request import TraceRequest
from mstore.convert.worker.dialects import import_old, is_old
from mstore.convert.worker.keras_staging import Staged
from mstore.convert.worker.loading import (
    import_builder,
    named_builder,
    require_builder,
    run_builder,
)
from mstore.convert.worker.rebuilding import run_builder_again
from mstore.convert.worker.vetting import aliases, refuse_code, refuse_operations
from mstore.errors import Error, InputError
from mstore.servable import Servable

_FRAMEWORKS = frozenset({"keras", "tensorflow", "tf_keras", "numpy", "mstore"})


class Architecture:
    """The way to the model of one file.

    The builder's module is imported first, so that the classes that it registers are known; its
    other classes and functions are known by their names. If the builder is a function and returns
    a model, that is the model; if it returns a mapping, that holds custom objects.

    Attributes:
        is_builders: whether the builder made the model, and not the file.
        warnings: for the user.
    """

    def __init__(self, request: TraceRequest, staged: Staged) -> None:
        """Take the request and the file.

        Raises:
            InputError: if the file holds weights alone, and there is no builder.
        """
        if staged.architecture is None:
            require_builder(request)
        self._request = request
        self._staged = staged
        self._module: types.ModuleType | None = None
        self.is_builders = False
        self.warnings: list[str] = []
        self._is_old = False

    def make(self) -> Servable:
        """Make the model.

        Raises:
            InputError: if the file uses what is not known, or holds code that is not trusted.
            BuilderError: if the builder raises.
        """
        objects: dict[str, Any] = {}
        if self._request.builder is not None:
            self._module = self._module or import_builder(self._request)
            objects = custom_objects(self._module)
            _, name = split(self._request.builder, named=False)
            made = self._made(self._module, name) if name else {}
            if not isinstance(made, Mapping):
                self.is_builders = True
                return made if isinstance(made, Servable) else Servable(made)
            objects.update(made)
        return Servable(self._from_file(objects))

    def make_again(self, taken: set[int]) -> Servable:
        """Make the model anew, without the variables whose identities are ``taken``."""
        if self.is_builders:
            return run_builder_again(self._request, taken)
        return self.make()

    def load_weights(self, model: Any, path: Path) -> None:
        """Load the weights from a file of the checkpoint's form."""
        if is_old(model) and not path.name.endswith(".weights.h5"):
            model.load_weights(str(path))
            return
        # What does not fit is left as it is; what was left shows by the dye.
        model.load_weights(str(path), skip_mismatch=True)

    def _made(self, module: types.ModuleType, name: str) -> Any:
        made = run_builder(
            named_builder(module, name, require_builder(self._request)), self._request
        )
        if made is None and self._staged.architecture is not None:
            return {}
        return made

    def _from_file(self, objects: dict[str, Any]) -> Any:
        staged, request = self._staged, self._request
        name = request.checkpoint.name
        if staged.architecture is None:
            raise InputError(
                f"the builder returned no model, and {name} holds weights alone",
                hint="return the model from the builder",
            )
        if not request.trust:
            refuse_code(staged.config, name)
        known = {**keras.saving.get_custom_objects(), **objects}
        objects = {**objects, **aliases(staged.config, known, name)}
        if self._is_old:
            return self._load(old_keras(name, ""), staged.original, objects)
        try:
            return self._load(keras, staged.architecture, objects)
        except InputError as exc:
            if staged.original is None or not staged.keras_version.startswith("2."):
                raise
            model = self._load(old_keras(name, exc.message), staged.original, objects)
            self._is_old = True
            self.warnings.append(
                f"{name} was written by Keras {staged.keras_version}, and Keras "
                f"{keras.__version__} cannot rebuild it; tf-keras did"
            )
            return model

    def _load(self, library: Any, path: Path | None, objects: Mapping[str, Any]) -> Any:
        request = self._request
        if library is not keras and not request.trust:
            refuse_operations(self._staged.config, request.checkpoint.name)
        try:
            return library.models.load_model(
                str(path), custom_objects=objects, compile=False, safe_mode=not request.trust
            )
        except Error:
            raise
        except Exception as exc:  # the border to Keras, and to classes of the user's
            raise InputError(
                f"{library.__name__} {library.__version__} cannot rebuild the model of "
                f"{request.checkpoint.name}: {exc}",
                hint="name the Python file that defines its classes: --builder FILE.py; or what "
                "makes the model: --builder FILE.py:FUNCTION",
            ) from exc


def old_keras(name: str, why: str) -> Any:
    """Return tf-keras.

    Raises:
        MissingExtraError: if it is not installed.
    """
    return import_old(f"{name} is a model of Keras 2, which Keras 3 cannot rebuild ({why[:200]})")


def custom_objects(module: types.ModuleType) -> dict[str, Any]:
    """Return the classes and functions that a module defines or imports from the user's others."""
    found: dict[str, Any] = {}
    for name, thing in vars(module).items():
        if not isinstance(thing, (type, types.FunctionType)):
            continue
        library = str(thing.__module__).partition(".")[0]
        if library not in _FRAMEWORKS and library not in sys.stdlib_module_names:
            found[name] = thing
    return found
