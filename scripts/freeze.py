"""Make a small store with the mstore of this checkout, to be kept: tests/frozen/NAME.tar.xz.

`PYTHONPATH=. .venv/bin/python scripts/freeze.py tests/frozen/0009.tar.xz` writes what
tests/catalog/test_frozen.py opens for ever after. Names and paths in it are made up.
"""

import hashlib
import json
import pwd
import shutil
import socket
import sys
import tarfile
from pathlib import Path

from mstore.store import Store
from tests.crash import conversion

ROOT = Path("/srv/frozen")


def main(target: Path) -> None:
    """Make the store in `ROOT`, and the archive."""
    socket.gethostname = lambda: "training"
    pwd.getpwuid = lambda _: pwd.struct_passwd(("someone", "x", 1000, 1000, "", "/", "/bin/sh"))
    conversion.LARGE = 1 << 13
    ROOT.mkdir(parents=True)
    try:
        with Store.init(ROOT) as store:
            told = fill(store)
        shutil.rmtree(ROOT / ".mstore" / "tmp", ignore_errors=True)
        (ROOT / ".mstore" / "tmp").mkdir()
        (ROOT / "told.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
        with tarfile.open(target, "w:xz") as archive:
            archive.add(ROOT, ".", filter=_plain)
    finally:
        shutil.rmtree(ROOT)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def fill(store: Store) -> dict[str, object]:
    """Put two checkpoints, two versions, tags and a deployment in, collect; say what there is."""
    for step in (10, 20):
        prefix = conversion.make_checkpoint(ROOT / "ckpts" / f"ckpt-{step}", step)
        details = {"metrics": {"loss": 1 / step}, "tags": [f"at{step}x"], "meta": {"by": "them"}}
        store.add(prefix, model="m", note="frozen", **details)
    store.tag("m@10", "first")
    conversion.install()
    store.export("m@10", builder="builder.py:build", to=ROOT / "base", message="why")
    store.export("m@20", builder="builder.py:build")
    store.gc(grace=0)
    return {
        "list": [item.to_json() for item in store.list()],
        "versions": [item.to_json() for item in store.versions()],
        "deployments": [item.to_json() for item in store.deployments()],
        "log": [item.to_json() for item in store.log()],
        "files": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((ROOT / "ckpts").iterdir())
        },
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
