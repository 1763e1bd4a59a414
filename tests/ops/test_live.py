from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from mstore.errors import WeightsNotSavedError
from mstore.store import Store
from tests.formats.bundle_writer import write_bundle
from tests.ops.making import added, checkpoint, floats, key, packs


@dataclass(eq=False)
class Weight:
    name: str
    array: npt.NDArray[np.float32]

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return self.array.dtype

    def numpy(self) -> npt.NDArray[np.float32]:
        return self.array


@dataclass(eq=False)
class Module:
    name: str = "live-model"
    variables: list[Weight] = field(default_factory=list)


def weight(name: str, *values: float) -> Weight:
    return Weight(name, np.array(values, np.float32))


def test_a_live_model_whose_weights_are_all_saved_is_added(store: Store, tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "ckpt-1", {"a": floats(1, 2), "b": floats(0, 0)})
    a = weight("a", 1, 2)
    model = Module(variables=[a, weight("b", 0, 0), a])
    assert added(store, prefix, model=model).model == "live-model"
    assert added(store, prefix, model=model, name="named").model == "named"


def test_weights_that_are_not_saved_are_named_and_nothing_is_stored(
    store: Store, tmp_path: Path
) -> None:
    prefix = checkpoint(tmp_path / "ckpt-1", {"a": floats(1, 2)})
    model = Module(variables=[weight("a", 1, 2), weight("lost", 3, 4), weight("stale", 1, 2.5)])
    for background in (False, True):
        with pytest.raises(WeightsNotSavedError) as caught:
            store.add(prefix, model="m", live=model, background=background)
        assert caught.value.weights == ("lost", "stale")
    assert packs(store) == []


def test_equal_weights_must_be_saved_as_often_as_the_model_has_them(
    store: Store, tmp_path: Path
) -> None:
    prefix = checkpoint(tmp_path / "ckpt-1", {"a": floats(0, 0)})
    model = Module(variables=[weight("a", 0, 0), weight("b", 0, 0)])
    with pytest.raises(WeightsNotSavedError) as caught:
        store.add(prefix, model="m", live=model)
    assert caught.value.weights == ("b",)


@pytest.mark.parametrize(
    "slot", ["optimizer/_variables/3", "model/bias/.OPTIMIZER_SLOT/optimizer/m"]
)
def test_a_slot_of_the_optimizer_excuses_no_lost_weight(
    store: Store, tmp_path: Path, slot: str
) -> None:
    prefix = write_bundle(tmp_path / "ckpt-1", {key(slot): floats(0, 0)})
    with pytest.raises(WeightsNotSavedError):
        store.add(prefix, model="m", live=Module(variables=[weight("bias", 0, 0)]))


def test_shape_and_type_must_fit_too(store: Store, tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "ckpt-1", {"a": floats(0, 0)})
    flat = Weight("flat", np.zeros((1, 2), np.float32))
    other = Weight("other", np.zeros(2, np.int32))
    with pytest.raises(WeightsNotSavedError) as caught:
        store.add(prefix, model="m", live=Module(variables=[flat, other]))
    assert caught.value.weights == ("flat", "other")
