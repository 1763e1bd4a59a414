"""Looks through the configuration of a model before Keras makes anything of it.

A configuration names classes and functions, and may hold byte code of lambdas. Keras 3 refuses to
import what it does not know, other versions and tf-keras do not; here nothing is left to them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mstore.errors import InputError

_LIBRARIES = frozenset({"keras", "keras_hub", "keras_cv", "keras_nlp", "tf_keras"})
_FUNCTIONS = frozenset(
    {"activations", "constraints", "initializers", "losses", "metrics", "ops", "random"}
    | {"regularizers"}
)
_FUNCTION = "function"
_LAMBDA = "__lambda__"
_COMPUTING = frozenset({"__operators__", "image", "linalg", "math", "nn", "signal", "strings"})
_NAMES = (
    "abs add argmax argmin argsort boolean_mask broadcast_to cast clip_by_value concat cos cumsum "
    "divide einsum equal exp expand_dims eye fill gather gather_nd greater greater_equal identity "
    "less less_equal logical_and logical_not logical_or matmul maximum meshgrid minimum multiply "
    "norm not_equal one_hot ones ones_like pad pow range rank realdiv reduce_all reduce_any "
    "reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat reshape "
    "reverse roll round rsqrt scatter_nd shape sigmoid sign sin size slice sort split sqrt square "
    "squeeze stack stop_gradient strided_slice subtract tanh tensordot tile transpose truediv "
    "unstack where zeros zeros_like"
)
_PLAIN = frozenset(_NAMES.split())
_SHOWN = 8


def refuse_code(config: Any, file: str) -> None:
    """Refuse a configuration that holds Python code.

    Raises:
        InputError: naming the layers that hold it.
    """
    names = sorted({_name(layer) for layer in _dicts(config) if _holds_code(layer)})
    if names:
        raise InputError(
            f"{file} holds the Python code of lambdas in {', '.join(names[:_SHOWN])}, and code "
            "from a file is not run",
            hint="run it with --trust if you know who wrote the file; or give a builder that makes "
            "the model: --builder FILE.py:FUNCTION",
        )


def aliases(config: Any, known: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Return what the configuration's own names mean, where ``known`` has it under another name.

    A class is written down as ``package>Name`` if it was registered, and as ``Name`` otherwise.

    Args:
        config: the configuration.
        known: custom classes and functions by name.
        file: name of the file, for messages.

    Raises:
        InputError: if it names things that are neither Keras's nor known.
    """
    found: dict[str, Any] = {}
    missing: set[str] = set()
    for wanted, name, module, is_function in _named(config):
        if wanted in known:
            continue
        if name in known:
            found[wanted] = known[name]
        elif not _is_of_models(module, is_function=is_function):
            missing.add(f"{wanted} (of {module})" if module else wanted)
    if missing:
        raise InputError(
            f"{file} uses classes or functions that are no parts of Keras: "
            + ", ".join(sorted(missing)[:_SHOWN]),
            hint="name the Python file that defines them: --builder FILE.py; or what makes the "
            "model: --builder FILE.py:FUNCTION",
        )
    return found


def _is_of_models(module: str, *, is_function: bool) -> bool:
    """Return whether a module is one that models are made of."""
    if module == "builtins":  # how Keras writes the names of its own functions
        return is_function
    library, *path = module.split(".")
    if library not in _LIBRARIES:
        return False
    part = next((name for name in path if name != "src"), "")
    # Of functions these alone: others of Keras download files or change its settings.
    return not is_function or part in _FUNCTIONS


def _named(config: Any) -> Iterator[tuple[str, str, str, bool]]:
    """Yield registered name, plain name and module of what Keras 3 looks up; if a function."""
    for thing in _dicts(config):
        kind = thing.get("class_name")
        if not isinstance(kind, str) or kind.startswith("__"):
            continue
        if "registered_name" not in thing and "module" not in thing:
            continue  # the legacy format, which looks names up among Keras's own
        module = str(thing.get("module") or "")
        if kind == _FUNCTION:
            name = wanted = str(thing.get("config"))
        else:
            name, wanted = kind, str(thing.get("registered_name") or kind)
        yield wanted, name.rpartition(">")[2], module, kind == _FUNCTION


def _holds_code(thing: Mapping[str, Any]) -> bool:
    if thing.get("class_name") == _LAMBDA:
        return True
    config = thing.get("config")
    if thing.get("class_name") != "Lambda" or not isinstance(config, Mapping):
        return False
    # The legacy format keeps marshalled code as a list, and says so in a field beside it.
    parts = [config.get(part) for part in (_FUNCTION, "output_shape", "mask")]
    kinds = {config.get(f"{part}_type") for part in (_FUNCTION, "output_shape", "mask")}
    return any(
        isinstance(part, Mapping) and part.get("class_name") == _LAMBDA for part in parts
    ) or bool("lambda" in kinds or isinstance(parts[0], list))


def refuse_operations(config: Any, file: str) -> None:
    """Refuse operations of TensorFlow that do more than compute, in models of Keras 2.

    Its ``TFOpLambda`` layers name any function of TensorFlow, those that write files too.

    Raises:
        InputError: naming them.
    """
    names = {
        str(_inner(layer).get("function"))
        for layer in _dicts(config)
        if layer.get("class_name") in {"TFOpLambda", "SlicingOpLambda", "ClassMethod"}
    }
    bad = sorted(
        name for name in names if name.partition(".")[0] not in _COMPUTING and name not in _PLAIN
    )
    if bad:
        raise InputError(
            f"{file} calls operations that may do more than compute: {', '.join(bad[:_SHOWN])}",
            hint="run it with --trust if you know who wrote the file",
        )


def _inner(thing: Mapping[str, Any]) -> Mapping[str, Any]:
    config = thing.get("config")
    return config if isinstance(config, Mapping) else {}


def _name(thing: Mapping[str, Any]) -> str:
    config = thing.get("config")
    name = config.get("name") if isinstance(config, Mapping) else None
    return repr(name) if isinstance(name, str) else "a function"


def _dicts(config: Any) -> Iterator[Mapping[str, Any]]:
    stack = [config]
    while stack:
        thing = stack.pop()
        if isinstance(thing, Mapping):
            yield thing
            stack.extend(thing.values())
        elif isinstance(thing, list):
            stack.extend(thing)
