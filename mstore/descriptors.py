"""Message classes of protobuf from declarations in text.

They live in private descriptor pools: TensorFlow and its API packages register the same messages in
the default pool of the process, and two registrations of one name clash.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_F = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "int32": _F.TYPE_INT32,
    "int64": _F.TYPE_INT64,
    "uint32": _F.TYPE_UINT32,
    "uint64": _F.TYPE_UINT64,
    "fixed32": _F.TYPE_FIXED32,
    "bool": _F.TYPE_BOOL,
    "bytes": _F.TYPE_BYTES,
    "string": _F.TYPE_STRING,
    "float": _F.TYPE_FLOAT,
    "double": _F.TYPE_DOUBLE,
}


def message_classes(package: str, messages: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return a class for each message.

    Args:
        package: a name of its own for these messages.
        messages: message to its fields as ``name number type``. The type is a scalar of protobuf,
            one of the messages, or ``enum(A,B,...)`` with the names of 0, 1, ...; ``*`` behind it
            marks repeated fields, ``?`` the one of a oneof.

    Raises:
        TypeError: a field has a type that is neither.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}.proto", package=package, syntax="proto3"
    )
    for message_name, fields in messages.items():
        message = file.message_type.add(name=message_name)
        for field in fields:
            _add_field(message, field, package)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


def _add_field(message: descriptor_pb2.DescriptorProto, text: str, package: str) -> None:
    name, number, kind = text.split()
    base = kind.rstrip("*?")
    field = message.field.add(name=name, number=int(number))
    field.label = _F.LABEL_REPEATED if kind.endswith("*") else _F.LABEL_OPTIONAL
    if kind.endswith("?"):
        message.oneof_decl.add(name=f"has_{name}")
        field.oneof_index = len(message.oneof_decl) - 1
    if base in _SCALARS:
        field.type = _SCALARS[base]
    elif base.startswith("enum("):
        enum = message.enum_type.add(name=f"{name}_enum")
        for value, word in enumerate(base[len("enum(") : -1].split(",")):
            enum.value.add(name=word, number=value)
        field.type = _F.TYPE_ENUM
        field.type_name = f".{package}.{message.name}.{enum.name}"
    else:
        field.type = _F.TYPE_MESSAGE
        field.type_name = f".{package}.{base}"
