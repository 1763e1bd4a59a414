import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstore.domain.canonical import canonical
from mstore.errors import DamagedStoreError
from mstore.objects.manifest import Manifest, ManifestFile, Piece, coalesce

CHUNKS = st.sampled_from([bytes([n]) * 32 for n in range(3)])
PIECES = st.builds(Piece, CHUNKS, st.integers(0, 50), st.integers(1, 20))
PATHS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda path: "\0" not in path and not {".", ".."} & set(f"x{path}".split("/"))
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    paths = sorted(draw(st.sets(PATHS, max_size=4)))
    files = []
    for path in paths:
        pieces = tuple(draw(st.lists(PIECES, max_size=5)))
        size = sum(piece.length for piece in pieces)
        files.append(
            ManifestFile(path, size, draw(st.sampled_from(["ab" * 32, "cd" * 32])), pieces)
        )
    return Manifest(tuple(files))


def expand(pieces: tuple[Piece, ...] | list[Piece]) -> list[tuple[bytes, int]]:
    return [(p.chunk, p.start + at) for p in pieces for at in range(p.length)]


@given(manifests())
def test_a_manifest_is_read_as_it_was_written(manifest: Manifest) -> None:
    data = manifest.to_bytes()
    again = Manifest.from_bytes(data)
    assert again == manifest
    assert again.to_bytes() == data
    assert again.identity() == manifest.identity()


@given(st.lists(PIECES, max_size=6), st.data())
def test_a_slice_is_the_bytes_it_names(pieces: list[Piece], data: st.DataObject) -> None:
    size = sum(piece.length for piece in pieces)
    file = ManifestFile("f", size, "", tuple(pieces))
    start = data.draw(st.integers(0, size))
    length = data.draw(st.integers(0, size - start))
    assert expand(file.slice(start, length)) == expand(pieces)[start : start + length]


@given(st.lists(PIECES, max_size=8))
def test_joining_pieces_changes_no_byte(pieces: list[Piece]) -> None:
    joined = coalesce(pieces)
    assert expand(joined) == expand(pieces)
    assert coalesce(joined) == joined


def test_the_identity_does_not_depend_on_the_chunks() -> None:
    one, two = (
        Manifest((ManifestFile("f", 2, "ab", pieces),))
        for pieces in ((Piece(b"1" * 32, 0, 2),), (Piece(b"2" * 32, 0, 1), Piece(b"3" * 32, 0, 1)))
    )
    assert one.identity() == two.identity()
    assert one.chunks() == {b"1" * 32}
    assert one.file("f").size == 2
    with pytest.raises(KeyError):
        one.file("g")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"files":{}, "x":1',
        b'{"files":[{}]}',
        b'{"files":[1]}',
        b'{"files":[{"path":"a","size":"1","sha256":"","pieces":[]}]}',
        b'{"files":[{"path":"a","size":1,"sha256":"","pieces":{}}]}',
        b'{"files":[{"path":"a","size":1,"sha256":"","pieces":[["zz",0,1]]}]}',
        b'{"files":[{"path":"a","size":1,"sha256":"","pieces":[["ab"]]}]}',
    ],
)
def test_what_is_no_manifest_is_damage(data: bytes) -> None:
    with pytest.raises(DamagedStoreError, match="manifest"):
        Manifest.from_bytes(data)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()))
def test_equal_values_have_equal_bytes(value: dict[str, int]) -> None:
    turned = dict(reversed(list(value.items())))
    assert canonical(value) == canonical(turned)
    assert json.loads(canonical(value)) == value


def test_what_is_no_number_is_no_fact() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"loss": float("nan")})


@pytest.mark.parametrize("path", ["/../x", "/a/../../b", "/./x", "a\0b", "/.."])
def test_a_manifest_whose_paths_climb_is_refused(path: str) -> None:
    data = Manifest((ManifestFile(path, 0, "ab" * 32, ()),)).to_bytes()
    with pytest.raises(DamagedStoreError):
        Manifest.from_bytes(data)
