import pytest

from mstore.errors import DamagedFileError
from mstore.formats import object_graph as module
from mstore.formats.object_graph import Attribute, Slot, parse_object_graph
from tests.formats.bundle_writer import message, node, number, object_graph


def test_children_attributes_and_slots_are_read() -> None:
    graph = parse_object_graph(
        object_graph(
            node({"v": 1, "optimizer": 2}),
            node(attributes=[("VARIABLE_VALUE", "dense/kernel", b"v/.ATTRIBUTES/VARIABLE_VALUE")]),
            node(slots=[(1, "momentum", 3)]),
            node(attributes=[("VARIABLE_VALUE", "", b"nameless")]),
        ),
        path="x",
    )
    assert dict(graph.nodes[0].children) == {"v": 1, "optimizer": 2}
    key = b"v/.ATTRIBUTES/VARIABLE_VALUE"
    assert graph.nodes[1].attributes == (Attribute("VARIABLE_VALUE", "dense/kernel", key),)
    assert graph.nodes[2].slots == (Slot(1, "momentum", 3),)
    assert graph.full_names() == {key: "dense/kernel"}


def test_an_empty_graph_has_no_nodes() -> None:
    assert parse_object_graph(b"", path="x").nodes == ()


def test_names_that_are_not_utf8_are_shown() -> None:
    data = message(1, message(2, message(2, b"caf\xe9") + message(3, b"k\xff")))
    graph = parse_object_graph(data, path="x")
    assert graph.full_names() == {b"k\xff": "caf\\xe9"}


def test_fields_that_are_not_read_are_passed_over() -> None:
    data = object_graph(node({}) + message(4, b"saver") + message(5, number(1, 1))) + message(
        9, b""
    )
    assert len(parse_object_graph(data, path="x").nodes) == 1


def test_more_objects_than_a_sound_graph_has_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_ITEMS", 10)
    parse_object_graph(message(1, b"") * 10, path="x")
    for data in (message(1, b"") * 11, message(1, message(2, b"") * 10)):
        with pytest.raises(DamagedFileError):
            parse_object_graph(data, path="x")
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    with pytest.raises(DamagedFileError, match="11 bytes"):
        parse_object_graph(bytes(11), path="x")
