from mstore.domain.tensors import DTYPES, OBJECT_GRAPH_KEY, Tensor, TensorTable


def tensor(key: bytes, **changes: object) -> Tensor:
    fields: dict[str, object] = {
        "key": key,
        "dtype": "float32",
        "shape": (2,),
        "shard": 0,
        "offset": 0,
        "size": 8,
        "crc32c": 1,
    }
    return Tensor(**{**fields, **changes})  # type: ignore[arg-type]  # the fields above


def test_equal_tensors_have_equal_fingerprints_wherever_they_are_stored() -> None:
    here, there = tensor(b"a"), tensor(b"b", shard=3, offset=99, full_name="dense")
    assert here.content == there.content
    assert here.fingerprint == there.fingerprint
    others = [tensor(b"a", crc32c=2), tensor(b"a", shape=(2, 1)), tensor(b"a", dtype="int32")]
    marks = {here.fingerprint, *(other.fingerprint for other in others)}
    assert len(marks) == 4
    assert all(-(2**63) <= mark < 2**63 for mark in marks)


def test_the_values_are_neither_the_graph_nor_heads_of_partitions() -> None:
    head = tensor(b"part", sliced=True, size=0)
    table = TensorTable((tensor(OBJECT_GRAPH_KEY), tensor(b"a"), head, tensor(b"\xff")))
    assert [item.key for item in table.values] == [b"a", b"\xff"]
    assert table.nbytes == 16
    assert len(table) == 4
    assert table.get(b"part") == head
    assert table.get(b"missing") is None
    assert table.values[1].name == "\\xff"


def test_each_type_has_a_name_of_its_own() -> None:
    assert len({name for name, _ in DTYPES.values()}) == len(DTYPES)
