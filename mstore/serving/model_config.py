"""Reads and changes a model server's ``ModelServerConfig`` in text.

What is not ours stays byte for byte: comments, other models, fields that we do not know. A change
is held against protobuf's own parser before it is handed out. Fields:
tensorflow_serving/config/{model_server_config,logging_config,log_collector_config}.proto and
tensorflow_serving/sources/storage_path/file_system_storage_path_source.proto.
"""

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf import text_format

from mstore.descriptors import message_classes
from mstore.domain.model_configs import ModelEntry, Selection
from mstore.errors import ConflictError, InputError
from mstore.serving.config_text import Body, Field, parse

_CLASSES = message_classes(
    "mstore.serving.config",
    {
        "Latest": ("num_versions 1 uint32",),
        "All": (),
        "Specific": ("versions 1 int64*",),
        "Policy": ("latest 100 Latest", "all 101 All", "specific 102 Specific"),
        "Label": ("key 1 string", "value 2 int64"),
        "Any": ("type_url 1 string", "value 2 bytes"),
        "Collector": ("type 1 string", "filename_prefix 2 string"),
        "PerTask": ("dc 1 string", "task_index 2 string", "sampling_rate 3 double"),
        "Sampling": (
            "sampling_rate 1 double",
            "attributes 2 int32",
            "per_task_sampling_configs 3 PerTask*",
        ),
        "Logging": (
            "log_collector_config 1 Collector",
            "sampling_config 2 Sampling",
            "custom_logging_config 3 Any*",
        ),
        "Config": (
            "name 1 string",
            "base_path 2 string",
            "model_type 3 enum(MODEL_TYPE_UNSPECIFIED,TENSORFLOW,OTHER)",
            "model_platform 4 string",
            "logging_config 6 Logging",
            "model_version_policy 7 Policy",
            "version_labels 8 Label*",
        ),
        "ConfigList": ("config 1 Config*",),
        "Server": ("model_config_list 1 ConfigList", "custom_model_config 2 Any"),
    },
)
_LIST, _ENTRY = "model_config_list", "config"
_POLICY, _LABELS = "model_version_policy", "version_labels"
_STEP = "  "


def read(text: str) -> dict[str, ModelEntry]:
    """Return the entries of a configuration by model.

    Raises:
        InputError: it is none; or it names a model twice, as the server would not take it.
    """
    parse(text)
    found: dict[str, ModelEntry] = {}
    for config in _message(text).model_config_list.config:
        if config.name in found:
            raise InputError(f"the model {config.name} is listed twice")
        chosen = [k for k in ("latest", "all", "specific") if _policy(config).HasField(k)]
        if len(chosen) > 1:
            raise InputError(f"the model {config.name} has {' and '.join(chosen)}, and needs one")
        found[config.name] = ModelEntry(
            config.name,
            config.base_path,
            chosen[0] if chosen else "latest",
            tuple(_policy(config).specific.versions),
            {label.key: label.value for label in config.version_labels},
            config.model_platform or ("tensorflow" if config.model_type else ""),
        )
    return found


def _policy(config: Any) -> Any:
    return config.model_version_policy


def serialized(text: str) -> bytes | None:
    """Return the message on the wire; None where it has fields that we do not know.

    Raises:
        InputError: it is none.
    """
    try:
        message = text_format.Parse(text, _CLASSES["Server"]())
    except text_format.ParseError:
        _message(text)  # raises what is wrong beside that
        return None
    data: bytes = message.SerializeToString()
    return data


def _message(text: str) -> Any:
    try:
        return text_format.Parse(text, _CLASSES["Server"](), allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"it is no ModelServerConfig: {error}") from error


def select(text: str, model: str, base_path: str, chosen: Selection) -> str:
    """Return a configuration in which a model's entry names other versions.

    Args:
        text: what there is; the empty string for a new one.
        model: the entry's name; one that is missing is put behind the others.
        base_path: of a new entry, absolute.
        chosen: what it shall name.

    Raises:
        InputError: ``text`` is no ModelServerConfig.
        ConflictError: it is written in a way in which the change cannot be made.
    """
    read(text)
    root = parse(text)
    bodies = [body for field in root.find(_LIST) for body in field.bodies]
    entry = _entry(text, bodies, model)
    if entry is not None:
        made = _changed(text, entry, chosen)
    elif bodies:
        made = _appended(text, bodies[-1], model, base_path, chosen)
    else:
        lines = _new_entry(model, base_path, chosen, _STEP)
        listed = "\n".join([f"{_LIST} {{", *lines, "}", ""])
        made = text + ("\n" if text and not text.endswith("\n") else "") + listed
    _ensure_only(text, made, model, chosen)
    return made


def _entry(text: str, bodies: list[Body], model: str) -> Body | None:
    for body in bodies:
        for field in body.find(_ENTRY):
            for entry in field.bodies:
                one = text_format.Parse(
                    text[entry.start : entry.end], _CLASSES["Config"](), allow_unknown_field=True
                )
                if one.name == model:
                    return entry
    return None


def _changed(text: str, entry: Body, chosen: Selection) -> str:
    """Put what is chosen where the entry has said it before, else behind its last field."""
    ours = [field for field in entry.fields if field.name in {_POLICY, _LABELS}]
    inline = "\n" not in text[entry.start : entry.end]
    indent = "" if inline else _indent(text, entry.fields[0].start)
    lines = _named(chosen, indent)
    put = " ".join(" ".join(lines).split()) if inline else "\n".join(lines).lstrip()
    if not ours:
        place = entry.fields[-1].end
        return text[:place] + (" " if inline else "\n" + indent) + put + text[place:]
    made = text
    for field in reversed(ours[1:]):
        made = _without(made, field)
    start, end = ours[0].start, ours[0].end
    close = "" if made[end : end + 1].isspace() else " "
    return made[:start] + put + close + made[end:]


def _without(text: str, field: Field) -> str:
    """Take a field out, with its line where nothing else is on it."""
    line = text.rfind("\n", 0, field.start) + 1
    end = text.find("\n", field.end) + 1
    alone = not text[line : field.start].strip() and not text[field.end : end].strip()
    if alone and end:
        return text[:line] + text[end:]
    return text[: field.start] + text[field.end :]


def _appended(text: str, body: Body, model: str, base_path: str, chosen: Selection) -> str:
    inline = "\n" not in text[body.start : body.end]
    step = _indent(text, body.fields[0].start) if body.fields and not inline else _STEP
    lines = _new_entry(model, base_path, chosen, step)
    if inline:
        return text[: body.end] + " " + " ".join(" ".join(lines).split()) + " " + text[body.end :]
    line = text.rfind("\n", 0, body.end) + 1
    if text[line : body.end].strip():  # the brace is not on a line of its own
        return text[: body.end] + "\n" + "\n".join(lines) + "\n" + text[body.end :]
    return text[:line] + "\n".join(lines) + "\n" + text[line:]


def _new_entry(model: str, base_path: str, chosen: Selection, indent: str) -> list[str]:
    deeper = indent + _STEP
    return [
        f"{indent}{_ENTRY} {{",
        f"{deeper}name: {_quoted(model)}",
        f"{deeper}base_path: {_quoted(base_path)}",
        f'{deeper}model_platform: "tensorflow"',
        *_named(chosen, deeper),
        f"{indent}}}",
    ]


def _named(chosen: Selection, indent: str) -> list[str]:
    deep, deeper = indent + _STEP, indent + 2 * _STEP
    lines = [f"{indent}{_POLICY} {{", f"{deep}specific {{"]
    lines += [f"{deeper}versions: {number}" for number in chosen.versions]
    lines += [f"{deep}}}", f"{indent}}}"]
    for label, number in sorted(chosen.labels.items()):
        lines += [f"{indent}{_LABELS} {{"]
        lines += [f"{deep}key: {_quoted(label)}", f"{deep}value: {number}", f"{indent}}}"]
    return lines


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _indent(text: str, offset: int) -> str:
    line = text[text.rfind("\n", 0, offset) + 1 : offset]
    return line[: len(line) - len(line.lstrip())]


def _ensure_only(before: str, made: str, model: str, chosen: Selection) -> None:
    """See that the change is the one that was wanted, and no other.

    Raises:
        ConflictError: it is not.
    """
    ours = read(made).get(model)
    fits = ours is not None and (ours.policy, ours.versions, dict(ours.labels)) == (
        "specific",
        chosen.versions,
        dict(chosen.labels),
    )
    if not fits or _rest(made, model, read(before)) != _rest(before, model, read(before)):
        raise ConflictError(
            f"the entry of {model} is written in a way that cannot be changed here",
            hint="write it with one field a line",
        )


def _rest(text: str, model: str, before: Mapping[str, ModelEntry]) -> list[Any]:
    """Return all entries without what is ours, and without an entry that was not there before."""
    message = _message(text)
    for config in message.model_config_list.config:
        if config.name == model:
            config.ClearField(_POLICY)
            config.ClearField(_LABELS)
    return [
        message.custom_model_config,
        *(config for config in message.model_config_list.config if config.name in before),
    ]
