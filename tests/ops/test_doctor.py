"""Doctor finds what is wrong around a serving directory; one mistake a case."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import HTTPServer
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mstore.domain.lint import KINDS
from mstore.errors import InputError, UnknownReferenceError
from mstore.store import Store, doctor_without_store
from tests.crash import conversion
from tests.ops.making import added, flip
from tests.serving.test_client import Answers, states

DATA = "variables/variables.data-00000-of-00001"


@pytest.fixture
def shop(store: Store, tmp_path: Path) -> Iterator[Store]:
    """A store whose versions 1 and 2 are in prod, which has a config file that names 2."""
    with conversion.installed():
        store.add_target("plain", tmp_path / "plain", models=[_model(store, tmp_path)])
        store.add_target(
            "prod",
            tmp_path / "base",
            models=["m"],
            policy="specific",
            config=tmp_path / "models.config",
        )
        for number in (1, 2):
            store.export(f"m@{number}", builder="b.py:build")
            store.promote(f"m:{number}", "prod")
            store.promote(f"m:{number}", "plain")
        yield store


def _model(store: Store, place: Path) -> str:
    for step in (1, 2):
        added(store, conversion.make_checkpoint(place / "m" / f"ckpt-{step}", step), model="m")
    return "m"


def around(store: Store, where: str) -> set[str]:
    """Return the kinds of findings, but for what the made-up graph itself gives."""
    (report,) = store.doctor(where)
    graph = {"no-restore", "custom-op", "broken-newest", "junk-file", "no-signatures"}
    return {item.kind for item in report.all} - graph


def edit(place: Path, old: str, new: str) -> None:
    file = place / "models.config"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


CASES: dict[str, Callable[[Path], object]] = {
    "config-absent-version": lambda p: edit(p, "versions: 2", "versions: 2 versions: 7"),
    "config-label-absent": lambda p: edit(
        p, "base_path", "version_labels { key: 'x' value: 9 } base_path"
    ),
    "config-label-unlisted": lambda p: edit(
        p, "base_path", "version_labels { key: 'x' value: 1 } base_path"
    ),
    "config-names-none": lambda p: edit(p, "versions: 2", ""),
    "config-no-platform": lambda p: edit(p, 'model_platform: "tensorflow"', ""),
    "config-no-versions": lambda p: edit(
        p,
        "  config {",
        f'  config {{ name: "o" base_path: "{p}/base/1" model_platform: "x" }}\n  config {{',
    ),
    "config-relative-base": lambda p: edit(p, f'"{p}/base"', '"base"'),
    "config-unreadable": lambda p: edit(p, "specific {", "specific"),
    "config-base-missing": lambda p: edit(
        p,
        "  config {",
        '  config { name: "o" base_path: "/no/where" model_platform: "x" }\n  config {',
    ),
    "foreign-version": lambda p: shutil.copytree(p / "base" / "1", p / "base" / "5"),
    "missing-version": lambda p: shutil.rmtree(p / "base" / "1"),
    "modified-version": lambda p: flip(p / "base" / "1" / DATA, 50),
    "odd-name": lambda p: shutil.copytree(p / "base" / "1", p / "base" / "007"),
    "leftover": lambda p: (p / "base" / ".mstore-tmp-x").mkdir(),
    "missing-graph": lambda p: (p / "base" / "2" / "saved_model.pb").unlink(),
}


def test_a_sound_target_has_no_findings(shop: Store) -> None:
    assert around(shop, "prod") == set()
    assert around(shop, "plain") == set()


@pytest.mark.parametrize("kind", CASES)
def test_each_mistake_is_found(shop: Store, tmp_path: Path, kind: str) -> None:
    CASES[kind](tmp_path)
    assert kind in around(shop, "prod")
    (report,) = shop.doctor("prod")
    assert report.failed() or KINDS[kind] == "warning"
    assert all(item.cure for item in report.all)


def test_the_server_is_asked(shop: Store, tmp_path: Path) -> None:
    def findings(*entries: tuple[int, str, str]) -> set[str]:
        body = json.dumps(states(*entries)).encode()
        handler = type("Handler", (Answers,), {"answers": [(200, body)], "asked": []})
        server = HTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shop.remove_target("plain")
        address = f"127.0.0.1:{server.server_port}"
        shop.add_target("plain", tmp_path / "plain", models=["m"], server=address)
        try:
            return around(shop, "plain")
        finally:
            server.shutdown()
            server.server_close()

    assert findings((2, "AVAILABLE", ""), (1, "END", "")) == set()
    assert findings((2, "END", "broken"), (1, "AVAILABLE", "")) == {"not-served"}
    assert findings((1, "AVAILABLE", "")) == {"not-served"}
    assert findings((2, "AVAILABLE", ""), (9, "AVAILABLE", "")) == {"served-from-elsewhere"}
    assert around(shop, "plain") == {"server-silent"}


def test_a_config_that_cannot_be_read_is_not_laid_at_the_servers_door(
    shop: Store, tmp_path: Path
) -> None:
    (report,) = shop.doctor("prod")
    assert [item.version for item in report.versions if item.live] == [2]
    shop.rollback("prod")
    (report,) = shop.doctor("prod")
    assert [item.version for item in report.versions if item.live] == [1]
    edit(tmp_path, "specific {", "specific")
    assert around(shop, "prod") == {"config-unreadable"}
    (tmp_path / "models.config").unlink()
    (report,) = shop.doctor("prod")
    (item,) = (item for item in report.all if item.kind == "config-unreadable")
    assert item.detail.endswith("No such file or directory")


def test_a_full_disk_and_a_broken_off_rollback_are_said(shop: Store) -> None:
    with mock.patch.object(os, "statvfs", return_value=mock.Mock(f_bavail=1, f_frsize=512)):
        assert around(shop, "plain") == {"no-space"}
    failing = mock.patch("mstore.ops.unfinished.withdraw", side_effect=InputError("stop"))
    with failing, pytest.raises(InputError):
        shop.rollback("plain")
    assert around(shop, "plain") == {"unfinished"}


def test_a_directory_is_looked_at_with_and_without_a_store(shop: Store, tmp_path: Path) -> None:
    base = str(tmp_path / "plain")
    assert around(shop, base) == set()
    flip(tmp_path / "plain" / "2" / DATA, 50)
    assert around(shop, base) >= {"modified-version"}
    (report,) = doctor_without_store(base, config=tmp_path / "models.config")
    assert report.path == base
    found = [item.subject for item in report.all if item.kind == "modified-version"]
    assert found == [f"{base}/2"]
    with pytest.raises(InputError, match="does not exist"):
        doctor_without_store(tmp_path / "nowhere")
    with pytest.raises((InputError, UnknownReferenceError)):
        shop.doctor("nowhere")


@pytest.mark.usefixtures("shop")
def test_a_base_path_in_the_config_file_may_be_any_text(tmp_path: Path) -> None:
    edit(tmp_path, f'"{tmp_path}/base"', f'"/{"a" * 5000}"')
    (report,) = doctor_without_store(tmp_path / "base", config=tmp_path / "models.config")
    assert "config-base-missing" in {item.kind for item in report.all}


def test_what_cannot_be_read_is_a_finding_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "base" / "1").mkdir(parents=True)
    refusing = mock.patch("mstore.ops.audit.inspect", side_effect=PermissionError(13, "refused"))
    with refusing:
        (report,) = doctor_without_store(tmp_path / "base")
    assert {"missing-graph", "unreadable-file"} <= {item.kind for item in report.all}


letters = st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"])
names = st.text(letters, min_size=1, max_size=50).filter(lambda name: name not in {".", ".."})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        names.filter(lambda n: n not in {".", ".."} and len(n.encode()) < 200), st.binary()
    )
)
def test_no_directory_is_too_odd(tmp_path: Path, found: dict[str, bytes]) -> None:
    base = tmp_path / "odd"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    for number, (name, data) in enumerate(found.items()):
        if number % 2:
            (base / name).write_bytes(data)
        else:
            (base / name / "variables").mkdir(parents=True)
            (base / name / "saved_model.pb").write_bytes(data)
    config = tmp_path / "config"
    config.write_bytes(b"".join(found.values()))
    (report,) = doctor_without_store(base, config=config)
    assert report.path == str(base)
