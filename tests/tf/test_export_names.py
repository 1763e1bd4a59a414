"""Names that contradict the places of variables are seen; those that only differ are not."""

from types import SimpleNamespace
from typing import Any

import pytest

from mstore.convert.worker.matching import Bound
from mstore.convert.worker.naming import refuse_contradictions
from mstore.convert.worker.trained import Leaf
from mstore.errors import ProofError


def bound(name: str, trained: str, *, by_position: bool = True, hint: str = "") -> Bound:
    weight: Any = SimpleNamespace(name=name, dtype="float32", shape=(4, 4))
    leaf = Leaf(f"key of {trained}", trained, "float32", (4, 4))
    return Bound(weight, leaf, "layers.0", by_position=by_position, hint=hint)


@pytest.mark.parametrize(
    "pairs",
    [
        [("net/dense/kernel", "net/dense/kernel"), ("net/dense_1/kernel", "net/dense_1/kernel")],
        [
            ("net/dense/kernel", "net_2/dense_7/kernel"),
            ("net/dense_1/kernel", "net_2/dense_8/kernel"),
        ],
        [
            ("net/dense_9/kernel", "net/dense_99/kernel"),
            ("net/dense_10/kernel", "net/dense_100/kernel"),
        ],
        [("net/dense/kernel", "net/kernel"), ("net/dense_1/kernel", "net/kernel")],
        [("net/enc/kernel", "net/encoder/kernel"), ("net/dec/kernel", "net/decoder/kernel")],
        [("net/dense/kernel", ""), ("net/dense_1/kernel", "")],
        [("v", "Variable"), ("w", "Variable")],
    ],
)
def test_names_that_agree_or_say_nothing_pass(pairs: list[tuple[str, str]]) -> None:
    refuse_contradictions([bound(live, trained) for live, trained in pairs])


@pytest.mark.parametrize(
    "pairs",
    [
        [("net/a/kernel", "net/b/kernel"), ("net/b/kernel", "net/a/kernel")],
        [("net/dense/kernel", "net/dense_1/kernel"), ("net/dense_1/kernel", "net/dense/kernel")],
        [("net/dense/kernel", "net/dense_5/kernel"), ("net/dense_1/kernel", "net/dense_4/kernel")],
        [
            ("net/a/kernel", "net/b/kernel"),
            ("net/b/kernel", "net/c/kernel"),
            ("net/c/kernel", "net/a/kernel"),
        ],
    ],
)
def test_names_that_belong_to_another_variable_are_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(ProofError) as caught:
        refuse_contradictions([bound(live, trained) for live, trained in pairs])
    assert len(caught.value.subjects) >= 2


def test_attributes_outrank_the_order_of_making() -> None:
    refuse_contradictions(
        [
            bound("net/dense/kernel", "net/dense_1/kernel", by_position=False),
            bound("net/dense_1/kernel", "net/dense/kernel", by_position=False),
        ]
    )


def test_an_optimizers_slots_tell_layers_apart_whose_names_do_not() -> None:
    def listed(*hints: str) -> list[Bound]:
        names = ("net/dense/kernel", "net/dense_1/kernel")
        return [
            bound(name, "net/kernel", hint=hint) for name, hint in zip(names, hints, strict=True)
        ]

    refuse_contradictions(listed("net_dense_3_kernel_momentum", "net_dense_4_kernel_momentum"))
    with pytest.raises(ProofError):
        refuse_contradictions(listed("net_dense_4_kernel_momentum", "net_dense_3_kernel_momentum"))
