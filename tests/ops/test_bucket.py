"""Versions served from a bucket: whole or not there, whatever happens to the upload."""

import hashlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mstore.cli.run import run
from mstore.domain.places import BucketPath, base_of
from mstore.domain.records import FileRecord
from mstore.errors import (
    ConflictError,
    InputError,
    MissingExtraError,
    RefusedError,
    SystemIOError,
)
from mstore.serving import bucket
from mstore.serving.model_config import read
from mstore.serving.publish import FileToPlace
from mstore.store import Store
from tests.crash import conversion
from tests.ops.making import added
from tests.serving.s3 import BUCKET, Proxy, environment, s3_server

ROOT = Path(__file__).parents[2]
_PREFIXES = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def proxy(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server, which all clients are led to."""
    made = Proxy(server)
    for name, value in environment(made.port).items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


@pytest.fixture
def shop(proxy: Proxy, store: Store, tmp_path: Path) -> Iterator[Store]:
    """A store with versions 1 to 3 of the model m."""
    with conversion.installed():
        for step in (1, 2, 3):
            prefix = conversion.make_checkpoint(tmp_path / "m" / f"ckpt-{step}", step)
            added(store, prefix, model="m")
            store.export(f"m@{step}", builder="b.py:build")
        assert proxy.seen == []
        yield store


@pytest.fixture
def base() -> str:
    return f"s3://{BUCKET}/served{next(_PREFIXES)}/m"


def contents(base: str) -> dict[str, str]:
    """Return the SHA-256 of each object below a prefix."""
    place = base_of(base)
    assert isinstance(place, BucketPath)
    return {
        name: hashlib.sha256(b"".join(bucket.read(place, name))).hexdigest()
        for name in bucket.objects(place)
    }


def expected(store: Store, *numbers: int) -> dict[str, str]:
    return {
        f"{version.version}/{file.path}": file.sha256
        for version in store.versions("m")
        if version.version in numbers
        for file in version.files
    }


def ensure_whole(store: Store, base: str) -> None:
    """See that each version that has its graph has all else too."""
    found = contents(base)
    for number in (1, 2, 3):
        if f"{number}/saved_model.pb" in found:
            version = expected(store, number)
            assert {k: v for k, v in found.items() if k.startswith(f"{number}/")} == version


def test_ship_undo_and_audit(shop: Store, base: str) -> None:
    shop.add_target("prod", base, models=["m"])
    made = shop.promote("m:1", "prod", alias="stable")
    assert (made.path, made.new) == (f"{base}/1", True)
    assert not shop.promote("m:1", "prod").new
    shop.promote("m:2", "prod")
    assert contents(base) == expected(shop, 1, 2)
    (report,) = shop.audits("prod")
    assert [(v.version, v.verdict, v.live) for v in report.versions] == [
        (1, "proven", False),
        (2, "proven", True),
    ]
    assert report.versions[1].deployment is not None
    assert report.versions[1].path == f"{base}/2"
    back = shop.rollback("prod")
    assert (back.version, back.removed, back.path) == (1, (2,), f"{base}/1")
    assert contents(base) == expected(shop, 1)
    (state,) = shop.targets()
    assert (str(state.site.base), state.placed.live) == (base, 1)
    with pytest.raises(RefusedError, match="the only one"):
        shop.retire("prod", 1)
    shop.promote("m:3", "prod")
    with pytest.raises(RefusedError, match="has the alias stable"):
        shop.retire(base, 1)
    assert shop.rollback(base, to=2).restored
    assert f"{base}/2" in {d.path for d in shop.deployments("m")}
    assert shop.verify().clean


def test_the_graph_comes_last_and_leaves_first(shop: Store, base: str, proxy: Proxy) -> None:
    shop.promote("m:1", base)
    keys = [key.partition("/m/1/")[2] for method, key in proxy.seen if method == "PUT"]
    assert keys[-1] == "saved_model.pb"
    assert sorted(keys) == sorted(file.path for file in shop.versions("m")[2].files)
    last = max(i for i, (method, _) in enumerate(proxy.seen) if method == "PUT")
    read_back = {key for method, key in proxy.seen[:last] if method == "GET"}
    assert {
        f"/{BUCKET}/{base.partition(f'{BUCKET}/')[2]}/1/{key}" for key in keys[:-1]
    } <= read_back
    shop.promote("m:2", base)
    proxy.reset()
    shop.rollback(base)
    gone = [key for method, key in proxy.seen if method in {"DELETE", "POST"}]
    assert gone[0].endswith("/2/saved_model.pb")


def test_an_upload_that_is_refused_at_any_request_leaves_no_half_version(
    shop: Store, base: str, proxy: Proxy
) -> None:
    shop.promote("m:1", base)
    proxy.reset()
    shop.promote("m:2", base)
    total = len(proxy.seen)
    shop.rollback(base)
    for number in range(total):
        proxy.reset()
        proxy.refuse_from = number
        with pytest.raises(SystemIOError, match="failed: "):
            shop.promote("m:2", base, allow=["rolled-back"])
        proxy.reset()
        ensure_whole(shop, base)
        assert {k for k in contents(base) if k.startswith("1/")} == set(expected(shop, 1))
    shop.promote("m:2", base, allow=["rolled-back"])
    assert contents(base) == expected(shop, 1, 2)
    assert shop.audits(base)[0].proven


@pytest.mark.parametrize("name", ["variables/variables.index", "saved_model.pb"])
def test_other_bytes_than_were_sent_are_no_version(
    shop: Store, base: str, proxy: Proxy, name: str
) -> None:
    shop.promote("m:1", base)
    proxy.reset()
    proxy.spoil = f"/2/{name}"
    with pytest.raises(SystemIOError, match="came back as other bytes"):
        shop.promote("m:2", base)
    proxy.reset()
    assert "2/saved_model.pb" not in contents(base)
    shop.promote("m:2", base)
    assert contents(base) == expected(shop, 1, 2)


CHILD = """
import sys
from mstore.store import Store
with Store.open(sys.argv[1]) as store:
    sys.stdin.readline()
    store.promote("m:2", sys.argv[2])
"""


def test_a_killed_upload_is_made_good_by_the_next(shop: Store, base: str, proxy: Proxy) -> None:
    shop.promote("m:1", base)
    for at in (1, 2, 4, 6):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(shop.path), base],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
        )
        proxy.reset()
        proxy.victim, proxy.kill_at = process.pid, at
        process.communicate(b"go\\n")
        assert process.returncode == -signal.SIGKILL
        proxy.reset()
        ensure_whole(shop, base)
    shop.promote("m:2", base)
    assert contents(base) == expected(shop, 1, 2)


def test_other_content_under_a_number_is_never_overwritten(shop: Store, base: str) -> None:
    place = base_of(base)
    assert isinstance(place, BucketPath)
    store = bucket._store(place)
    store.put("2/saved_model.pb", b"another")
    store.put("2/variables/variables.index", b"x")
    with pytest.raises(ConflictError, match="never given to other"):
        shop.promote("m:2", base)
    assert set(contents(base)) == {"2/saved_model.pb", "2/variables/variables.index"}
    store.delete("2/saved_model.pb")
    shop.promote("m:2", base)  # what is left of an upload is no version
    assert contents(base) == expected(shop, 2)


def test_a_config_file_names_what_is_whole_in_the_bucket(
    shop: Store, base: str, proxy: Proxy, tmp_path: Path
) -> None:
    config = tmp_path / "models.config"
    shop.add_target("prod", base, models=["m"], policy="specific", config=config)
    shop.promote("m:1", "prod")
    assert (read(config.read_text())["m"].base_path, read(config.read_text())["m"].versions) == (
        base,
        (1,),
    )
    proxy.refuse_from = len(proxy.seen) + 6
    with pytest.raises(SystemIOError):
        shop.promote("m:2", "prod")
    proxy.reset()
    assert read(config.read_text())["m"].versions == (1,)
    shop.promote("m:2", "prod")
    assert read(config.read_text())["m"].versions == (2,)
    assert shop.rollback("prod").way == "config"
    assert read(config.read_text())["m"].versions == (1,)


def test_what_a_bucket_cannot_do_is_said(
    shop: Store, base: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemIOError, match="NoSuchBucket"):
        shop.add_target("x", "s3://nobody/m", models=["m"])
    shop.promote("m:1", base)
    with pytest.raises(InputError, match="in a bucket"):
        shop.doctor(base)
    command = ["-C", str(shop.path), "promote", "m:2", base, "--json"]
    assert run(command) == 0
    assert f'"{base}/2"' in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(MissingExtraError, match="obstore is not installed"):
        shop.promote("m:3", base)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3://b/m/", BucketPath("s3://b/m")),
        (Path("s3://b/m"), BucketPath("s3://b/m")),
        ("gs://b", BucketPath("gs://b")),
        ("./s3", Path("s3")),
        ("s3", Path("s3")),
    ],
)
def test_a_url_is_a_bucket_and_all_else_a_path(text: str | Path, place: object) -> None:
    assert base_of(text) == place


def test_one_version_in_a_bucket_is_audited_by_its_own_name(shop: Store, base: str) -> None:
    shop.promote("m:1", base)
    shop.promote("m:2", base)
    for number, live in ((1, False), (2, True)):
        (report,) = shop.audits(f"{base}/{number}")
        (version,) = report.versions
        assert (version.version, version.path) == (number, f"{base}/{number}")
        assert (version.verdict, version.live) == ("proven", live)
        assert version.deployment is not None


def test_a_graph_of_many_parts_is_still_put_only_where_there_is_none(
    proxy: Proxy, base: str
) -> None:
    place = base_of(base)
    assert isinstance(place, BucketPath)
    graph = bytes(range(256)) * (24 << 12)  # 24 MiB, more than one request of a multipart upload
    record = FileRecord("saved_model.pb", len(graph), hashlib.sha256(graph).hexdigest())
    file = FileToPlace(record, lambda: iter([memoryview(graph)]))
    assert bucket.place(place, 1, [file], lambda _: False, lambda _: None)
    assert [method for method, _ in proxy.seen if method in {"PUT", "POST"}] == ["PUT"]
    assert bucket.is_version(place / "1", [record])


def test_a_graph_whose_answer_was_lost_is_ours(shop: Store, base: str, proxy: Proxy) -> None:
    proxy.unanswered = "saved_model.pb"
    assert shop.promote("m:1", base).new
    assert [key.rpartition("/")[2] for method, key in proxy.seen if method == "PUT"][-2:] == [
        "saved_model.pb",
        "saved_model.pb",
    ]
    assert contents(base) == expected(shop, 1)


def test_what_others_upload_at_the_moment_is_left_alone(shop: Store, base: str) -> None:
    place = base_of(base)
    assert isinstance(place, BucketPath)
    bucket._store(place).put("2/another", b"x")
    with pytest.raises(ConflictError):
        shop.promote("m:2", base)
    assert set(contents(base)) == {"2/another"}
