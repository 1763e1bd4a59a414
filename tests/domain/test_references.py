import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstore.domain.names import check_name, check_tag, looks_like_hash
from mstore.domain.references import (
    Best,
    CheckpointRef,
    Latest,
    Named,
    Step,
    VersionRef,
    WordRef,
    parse_reference,
)
from mstore.errors import UsageError

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,20}", fullmatch=True)
METRICS = st.text(string.ascii_letters + string.digits + "+-_./é", min_size=1, max_size=12)
SELECTORS = st.one_of(
    st.just("latest"),
    st.just("best"),
    st.integers(0, 2**80).map(str),
    st.from_regex(r"0{0,30}[0-9]{1,30}", fullmatch=True),
    NAMES,
    st.tuples(st.sampled_from(["", "+", "-"]), METRICS).map(lambda m: f"best:{m[0]}{m[1]}"),
)
HEADS = st.one_of(NAMES, st.tuples(NAMES, NAMES).map("/".join))
TEXTS = st.one_of(
    HEADS,
    st.tuples(HEADS, SELECTORS).map("@".join),
    st.tuples(NAMES, st.one_of(NAMES, st.integers(0, 2**80).map(str))).map(":".join),
    st.text(string.ascii_lowercase + "0123456789@:/+-._", max_size=14),
    st.text(max_size=10),
)


@given(TEXTS)
def test_a_reference_as_text_means_the_same_again(text: str) -> None:
    try:
        reference = parse_reference(text)
    except UsageError as error:
        assert error.hint  # noqa: PT017 - both ends are fine, and each has its law
        return
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mnist", WordRef("mnist")),
        ("a3f9", WordRef("a3f9")),
        ("mnist@latest", CheckpointRef("mnist")),
        ("mnist/lr3e4", CheckpointRef("mnist", "lr3e4", Latest())),
        ("mnist@1200", CheckpointRef("mnist", None, Step(1200))),
        ("mnist@0", CheckpointRef("mnist", None, Step(0))),
        ("mnist@" + "0" * 25 + "7", CheckpointRef("mnist", None, Step(7))),
        ("mnist/lr@12", CheckpointRef("mnist", "lr", Step(12))),
        ("mnist@best", CheckpointRef("mnist", None, Best())),
        ("mnist@best:val_loss", CheckpointRef("mnist", None, Best("val_loss", highest=False))),
        ("mnist@best:-val_loss", CheckpointRef("mnist", None, Best("val_loss", highest=False))),
        ("mnist@best:+acc", CheckpointRef("mnist", None, Best("acc", highest=True))),
        ("mnist@best:-+odd", CheckpointRef("mnist", None, Best("+odd", highest=False))),
        ("mnist@a3f9", CheckpointRef("mnist", None, Named("a3f9"))),
        ("mnist@good", CheckpointRef("mnist", None, Named("good"))),
        ("mnist:4", VersionRef("mnist", 4)),
        ("mnist:0", VersionRef("mnist", 0)),
        ("mnist:latest", VersionRef("mnist")),
        ("mnist:stable", VersionRef("mnist", alias="stable")),
    ],
)
def test_each_form_is_understood(text: str, expected: object) -> None:
    assert parse_reference(text) == expected


@given(st.text(max_size=8))
def test_a_tag_is_never_taken_for_something_else(name: str) -> None:
    try:
        check_tag(name)
    except UsageError:
        return
    reference = parse_reference(f"m@{name}")
    assert reference == CheckpointRef("m", None, Named(name))
    assert not looks_like_hash(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "-a", "a/b", "a b", "a\n", "é", "a" * 129, "a:b"]
)
def test_names_that_would_mean_something_in_a_path_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        check_name("model", name)
