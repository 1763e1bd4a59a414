"""A SavedModel that was made elsewhere is taken in, given back, exported and audited."""

from pathlib import Path

import pytest

from mstore.errors import DamagedFileError, InputError
from mstore.ops import conversion as conversion_module
from mstore.store import Store
from tests.ops.making import DATA, added, flip, pack_bytes, saved_model, tree, weights


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A SavedModel with an asset, a file of somebody's and no statement of ours."""
    path = saved_model(tmp_path / "elsewhere" / "epoch-7", weights())
    (path / "assets").mkdir()
    (path / "assets" / "words.txt").write_text("one\ntwo\n")
    (path / "keras_metadata.pb").write_bytes(b"\x0a\x00")
    return path


@pytest.fixture(autouse=True)
def _nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion_module, "check", lambda *_, **__: {})


def test_it_is_a_checkpoint_of_its_variables(store: Store, foreign: Path) -> None:
    checkpoint = added(store, foreign)
    assert (checkpoint.format, checkpoint.step, checkpoint.step_source) == (
        "saved-model",
        7,
        "name",
    )
    assert checkpoint.tensors == 2
    assert [tensor.full_name for tensor in store.tensors("m").values] == [
        "program/bias",
        "program/kernel",
    ]
    assert not added(store, foreign).new


def test_its_files_come_back_bit_for_bit(store: Store, foreign: Path, tmp_path: Path) -> None:
    added(store, foreign)
    out = store.checkout("m", tmp_path / "out")
    assert out.prefix == str(tmp_path / "out" / "epoch-7")

    def files(root: Path) -> dict[str, str]:
        return {
            name.removeprefix(str(root)): digest
            for name, (_, _, digest) in tree(root).items()
            if digest
        }

    assert files(tmp_path / "out" / "epoch-7") == files(foreign)
    assert len(out.files) == 5


def test_its_version_is_what_it_was_and_costs_no_weights(store: Store, tmp_path: Path) -> None:
    path = saved_model(tmp_path / "big-1", {"kernel": weights()["kernel"]})
    added(store, path)
    before = pack_bytes(store)
    version = store.export("m", to=tmp_path / "serving")
    assert (version.method, version.checks["weights"]) == ("link", "proven")
    assert pack_bytes(store) - before < 8000
    published = tmp_path / "serving" / "1"
    assert (published / DATA).read_bytes() == (path / DATA).read_bytes()
    assert (published / "saved_model.pb").read_bytes() == (path / "saved_model.pb").read_bytes()
    report = store.audit(tmp_path / "serving")
    assert [entry.verdict for entry in report.versions] == ["proven"]


def test_the_served_original_is_recognised_and_a_changed_one_is_not(
    store: Store, foreign: Path
) -> None:
    added(store, foreign)
    assert store.audit(foreign).versions[0].verdict == "proven"
    flip(foreign / DATA, 0)
    assert store.audit(foreign).versions[0].verdict != "proven"


def test_damage_links_and_builders_are_refused(store: Store, foreign: Path, tmp_path: Path) -> None:
    added(store, foreign)
    with pytest.raises(InputError, match="builder"):
        store.export("m", builder="a.b:c")
    (foreign / "assets" / "more.txt").symlink_to(tmp_path)
    with pytest.raises(InputError, match="no regular file"):
        added(store, foreign, step=8)
    (foreign / "assets" / "more.txt").unlink()
    flip(foreign / DATA, (foreign / DATA).stat().st_size - 1)
    with pytest.raises(DamagedFileError, match="CRC32C"):
        added(store, foreign, step=8)
