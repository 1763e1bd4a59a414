"""Promotions and rollbacks with a server behind the target, which has the last word.

The server is the real one where it is on PATH, else the stand-in of `tests.tf.stand_in`.
"""

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mstore import disk
from mstore.cli.run import run
from mstore.domain.servers import ServerAddress
from mstore.errors import NotServedError, PartialError, RefusedError, ServerError
from mstore.serving.model_config import read
from mstore.serving.server import connect
from mstore.store import Store
from tests.tf.exporting import BUILDERS, load, train
from tests.tf.serving_process import Running, model_server

X = np.random.default_rng(4).normal(size=(5, 4)).astype("float32")
PATIENCE = 20.0


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Any]]:
    """A store with three versions of a model, each with a golden example; and their outputs."""
    place = tmp_path_factory.mktemp("served")
    model = load("classic").Net()
    optimizer = train(model, lambda: model(X))
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    outputs = {}
    with Store.init(place) as store:
        for step in (1, 2, 3):
            prefix = Path(checkpoint.write(str(place / f"ckpt-{step}")))
            options: dict[str, Any] = {
                "step": step,
                "builder": f"{BUILDERS}/classic.py:subclassed",
                "name": "net",
            }
            store.add(prefix, model=model, example=X, **options)
            outputs[step] = model(X).numpy()
            assert store.export(f"net@{step}").version == step
            for variable in model.trainable_variables:
                variable.assign(variable * 0.9 + 0.01)
    return place, outputs


@dataclass
class Place:
    """A target with its server; version 1 is served."""

    store: Store
    base: Path
    server: Running
    outputs: dict[int, Any]

    def answers(self, protocol: str = "http") -> Any:
        """Return what the highest version that is available gives."""
        port = self.server.rest if protocol == "http" else self.server.grpc
        server = connect(ServerAddress("127.0.0.1", port))
        found = server.status("net")
        live = max(n for n, status in found.items() if status.state == "AVAILABLE")
        signature = self.store.versions("net")[0].signatures["serving_default"]
        got = server.predict("net", live, "serving_default", signature, {"x": X})
        server.close()
        return next(iter(got.values()))

    def gives(self, step: int) -> bool:
        return bool(np.allclose(self.answers(), self.outputs[step], atol=1e-5))

    def names(self) -> set[str]:
        return {path.name for path in self.base.iterdir()}


@pytest.fixture(params=["rest", "grpc"])
def place(
    request: pytest.FixtureRequest, exported: tuple[Path, dict[int, Any]], tmp_path: Path
) -> Iterator[Place]:
    shutil.copytree(exported[0] / ".mstore", tmp_path / ".mstore")
    base = tmp_path / "models"
    with Store.open(tmp_path) as store:
        store.promote("net:1", base, wait=None)
        flags = {"model_name": "net", "model_base_path": base}
        with model_server(tmp_path / "server.log", **flags) as server:
            port = server.rest if request.param == "rest" else server.grpc
            store.add_target("prod", base, models=["net"], server=f"localhost:{port}")
            yield Place(store, base, server, exported[1])


def test_a_promotion_is_done_when_the_server_serves_what_was_recorded(place: Place) -> None:
    store = place.store
    assert place.gives(1)
    made = store.promote("net:2", "prod", alias="stable", wait=PATIENCE)
    assert made.served is not None
    assert (made.served["state"], made.served["parity"]) == ("AVAILABLE", "passed")
    assert isinstance(made.served["largest_difference"], float)
    assert place.gives(2)
    assert np.array_equal(place.answers("http"), place.answers("grpc"))
    again = store.promote("net:2", "prod", wait=PATIENCE)
    assert not again.new
    assert again.served is not None
    (report,) = store.doctor("prod")
    assert report.all == ()
    back = store.rollback("prod", wait=PATIENCE)
    assert back.served is not None
    assert (back.version, back.served["parity"]) == (1, "passed")
    assert place.gives(1)
    assert [item.event for item in store.deployments("net")] == [
        "rolled-back",
        "promoted",
        "promoted",
    ]


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]) -> None:
    """Change a version between the last check and the moment in which it is there."""
    original = disk.rename_new

    def rename(source: Path, target: Path) -> None:
        if target.name.isdigit():
            change(source)
        original(source, target)

    monkeypatch.setattr(disk, "rename_new", rename)


def flip(version: Path) -> None:
    data = version / "variables" / "variables.data-00000-of-00001"
    raw = bytearray(data.read_bytes())
    raw[0] ^= 1
    data.write_bytes(raw)


def test_what_the_server_cannot_load_is_taken_out_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = place.store
    store.promote("net:1", "prod", alias="stable", wait=PATIENCE)
    with monkeypatch.context() as patched:
        spoil(patched, flip)
        with pytest.raises(NotServedError, match="could not load net:2") as caught:
            store.promote("net:2", "prod", alias="stable", wait=PATIENCE)
    assert caught.value.exit_status == 1
    assert "--allow failed" in caught.value.hint
    assert place.names() == {"1", ".mstore-lock"} - ({".mstore-lock"} - place.names())
    assert place.gives(1)
    last = store.deployments("net")[0]
    assert (last.event, last.version) == ("failed", 2)
    assert last.message is not None
    assert "could not load" in last.message
    assert [v.version for v in store.versions("net") if v.aliases] == [1]
    (state,) = store.targets()
    assert state.placed.live == 1
    with pytest.raises(RefusedError, match="net:2 failed there"):
        store.promote("net:2", "prod")
    assert run(["-C", str(store.path), "promote", "net:2", "prod", "--json"]) == 1
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "refused"
    made = store.promote("net:2", "prod", allow=["failed"], wait=PATIENCE)
    assert made.served is not None
    assert place.gives(2)
    assert store.audit(place.base).proven


def test_a_failed_version_is_away_for_long_enough_to_be_tried_again(
    exported: tuple[Path, dict[int, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(exported[0] / ".mstore", tmp_path / ".mstore")
    base = tmp_path / "models"
    with Store.open(tmp_path) as store:
        store.promote("net:1", base, wait=None)
        flags = {"model_name": "net", "model_base_path": base, "file_system_poll_wait_seconds": 1}
        with model_server(tmp_path / "server.log", **flags) as server:
            store.add_target("prod", base, models=["net"], server=f"localhost:{server.rest}")
            with monkeypatch.context() as patched:
                spoil(patched, flip)
                with pytest.raises(NotServedError, match="could not load net:2"):
                    store.promote("net:2", "prod", wait=PATIENCE)
            made = store.promote("net:2", "prod", allow=["failed"], wait=PATIENCE)
            assert made.served is not None
            assert made.served["state"] == "AVAILABLE"


def test_other_outputs_than_the_live_model_gave_are_no_success(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap(version: Path) -> None:
        shutil.rmtree(version / "variables")
        shutil.copytree(place.base / "1" / "variables", version / "variables")

    with monkeypatch.context() as patched:
        spoil(patched, swap)
        with pytest.raises(NotServedError, match="the golden example does not come out"):
            place.store.promote("net:2", "prod", wait=PATIENCE)
    assert "2" not in place.names()
    assert place.store.deployments("net")[0].event == "failed"
    wait_until_gives(place, 1)


@pytest.fixture(params=["rest", "grpc"])
def configured(
    request: pytest.FixtureRequest, exported: tuple[Path, dict[int, Any]], tmp_path: Path
) -> Iterator[tuple[Place, Path]]:
    """A target whose server has a config file; 1 is served and has the label stable."""
    shutil.copytree(exported[0] / ".mstore", tmp_path / ".mstore")
    base, config = tmp_path / "models", tmp_path / "models.config"
    with Store.open(tmp_path) as store:
        options: dict[str, Any] = {"models": ["net"], "policy": "specific", "config": config}
        store.add_target("first", base, **options)
        store.promote("net:1", "first", wait=None)
        store.remove_target("first")
        flags: dict[str, Any] = {"model_config_file": config}
        if request.param == "rest":  # where it is not told, it has to look
            flags["model_config_file_poll_wait_seconds"] = 1
        with model_server(tmp_path / "server.log", **flags) as server:
            port = server.rest if request.param == "rest" else server.grpc
            store.add_target("prod", base, server=f"localhost:{port}", **options)
            store.promote("net:1", "prod", labels=["stable"], wait=PATIENCE)
            yield Place(store, base, server, exported[1]), config


def labelled(place: Place, label: str) -> Any:
    """Return what the version with a label gives."""
    body = json.dumps({"inputs": X.tolist()}).encode()
    url = f"http://127.0.0.1:{place.server.rest}/v1/models/net/labels/{label}:predict"
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, body) as answer:
                return np.array(json.load(answer)["outputs"])
        except urllib.error.HTTPError:  # the config is not read yet
            time.sleep(0.1)
    raise AssertionError(label)


def test_labels_move_when_the_server_serves_what_they_move_to(
    configured: tuple[Place, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, config = configured
    store = place.store
    assert np.allclose(labelled(place, "stable"), place.outputs[1], atol=1e-5)
    steps: list[tuple[tuple[int, ...], dict[str, int]]] = []
    replace = disk.replace_file

    def watched(source: Path, target: Path) -> None:
        replace(source, target)
        if target == config:
            entry = read(config.read_text())["net"]
            steps.append((entry.versions, dict(entry.labels)))

    with monkeypatch.context() as patched:
        patched.setattr(disk, "replace_file", watched)
        made = store.promote("net:2", "prod", labels=["stable"], wait=PATIENCE)
    assert made.served is not None
    assert made.served["parity"] == "passed"
    assert steps == [((1, 2), {"stable": 1}), ((1, 2), {"stable": 2}), ((2,), {"stable": 2})]
    wait_until_gives(place, 2)
    assert np.allclose(labelled(place, "stable"), place.outputs[2], atol=1e-5)
    # What the server cannot load leaves file and directory as they were.
    before = config.read_text()
    with monkeypatch.context() as patched:
        spoil(patched, flip)
        with pytest.raises(NotServedError):
            store.promote("net:3", "prod", labels=["stable"], wait=PATIENCE)
    assert config.read_text() == before
    assert "3" not in place.names()
    assert np.allclose(labelled(place, "stable"), place.outputs[2], atol=1e-5)
    back = store.rollback("prod", wait=PATIENCE)
    assert (back.version, back.way) == (1, "config")
    wait_until_gives(place, 1)
    assert np.allclose(labelled(place, "stable"), place.outputs[1], atol=1e-5)
    assert {"1", "2"} <= place.names()


def wait_until_gives(place: Place, step: int) -> None:
    server = connect(ServerAddress("127.0.0.1", place.server.rest))
    for _ in range(200):
        time.sleep(0.05)
        found = server.status("net")
        if [n for n, status in found.items() if status.state == "AVAILABLE"] == [step]:
            break
    assert place.gives(step)


def test_a_server_that_takes_too_long(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.store

    def stop(_: Path) -> None:
        place.server.pause()

    with monkeypatch.context() as patched:
        spoil(patched, stop)
        with pytest.raises(NotServedError, match="was taken out of"):
            store.promote("net:2", "prod", wait=1)
    place.server.go_on()
    assert "2" not in place.names()
    wait_until_gives(place, 1)


def test_without_its_server_nothing_is_promoted_and_all_is_rolled_back(place: Place) -> None:
    store = place.store
    store.promote("net:2", "prod", wait=PATIENCE)
    place.server.process.kill()
    place.server.process.wait()
    with pytest.raises(ServerError, match="no server answers") as caught:
        store.promote("net:3", "prod", wait=PATIENCE)
    assert "--no-wait" in caught.value.hint
    assert "3" not in place.names()
    with pytest.raises(PartialError, match="its server does not confirm"):
        store.rollback("prod", wait=PATIENCE)
    assert "2" not in place.names()
    assert store.deployments("net")[0].event == "rolled-back"
    assert store.promote("net:3", "prod", wait=None).served is None
    assert "3" in place.names()
