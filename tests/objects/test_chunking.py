from hypothesis import given, settings
from hypothesis import strategies as st

from mstore.objects.chunking import CHUNK_SIZE, SMALL, cut

LENGTHS = st.one_of(
    st.integers(0, 200),
    st.integers(SMALL - 2, SMALL + 2),
    st.integers(CHUNK_SIZE - 2, CHUNK_SIZE + 2),
    st.integers(0, 3 * CHUNK_SIZE),
)


@st.composite
def files(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Draw a file's length and its tensors, with holes between them."""
    position, tensors = 0, []
    for length in draw(st.lists(LENGTHS, max_size=25)):
        position += draw(st.sampled_from([0, 0, 0, 1, 63, SMALL]))
        tensors.append((position, length))
        position += length
    return position + draw(st.sampled_from([0, 0, 5, CHUNK_SIZE])), draw(st.permutations(tensors))


@settings(deadline=None)
@given(files())
def test_chunks_cover_the_file_exactly(file: tuple[int, list[tuple[int, int]]]) -> None:
    size, tensors = file
    position = 0
    for offset, length in cut(size, tensors):
        assert offset == position
        assert 0 < length <= CHUNK_SIZE
        position += length
    assert position == size


@settings(deadline=None)
@given(files())
def test_a_large_tensor_begins_and_ends_a_chunk(
    file: tuple[int, list[tuple[int, int]]],
) -> None:
    size, tensors = file
    chunks = cut(size, tensors)
    borders = {offset for offset, _ in chunks} | {size}
    for offset, length in tensors:
        if length >= SMALL:
            assert {offset, offset + length} <= borders


@settings(deadline=None)
@given(st.integers(SMALL, 3 * CHUNK_SIZE), files(), files())
def test_a_large_tensor_is_cut_alike_wherever_it_stands(
    length: int, one: tuple[int, list[tuple[int, int]]], other: tuple[int, list[tuple[int, int]]]
) -> None:
    cuts = []
    for before, tensors in (one, other):
        chunks = cut(before + length, [*tensors, (before, length)])
        cuts.append([(o - before, n) for o, n in chunks if o >= before])
    assert cuts[0] == cuts[1]


def test_an_empty_file_has_no_chunks() -> None:
    assert cut(0) == []
    assert cut(0, [(0, 0)]) == []
