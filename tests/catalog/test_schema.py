from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from mstore.catalog import schema
from mstore.catalog.engine import connect, reading, writing
from mstore.catalog.tables import metadata
from mstore.errors import DamagedStoreError, Error, StoreVersionError
from mstore.store import Store
from tests.ops.making import added, checkpoint


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(schema.migrations_directory()))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def test_the_migrations_make_the_very_tables_of_the_program(tmp_path: Path) -> None:
    engine = connect(tmp_path / "catalog.db")
    schema.ensure_current(engine)
    with reading(engine) as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_each_table_is_made_as_it_is_declared(tmp_path: Path) -> None:
    """Comparing SQL also sees what a comparison of columns does not: WITHOUT ROWID, WHERE."""
    listing = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
    found = []
    for name in ("migrated", "declared"):
        engine = connect(tmp_path / name)
        if name == "migrated":
            schema.ensure_current(engine)
        else:
            with writing(engine) as connection:
                metadata.create_all(connection)
        with reading(engine) as connection:
            rows = connection.exec_driver_sql(listing).all()
        found.append(
            {
                row[0]: ("WITHOUT ROWID" in row[1], " WHERE " in row[1])
                for row in rows
                if row[0] != "alembic_version"
            }
        )
        engine.dispose()
    assert found[0] == found[1]


def test_the_newest_script_is_the_head_and_every_script_is_known() -> None:
    assert scripts().get_heads() == [schema.HEAD]
    assert {script.revision for script in scripts().walk_revisions()} == schema.KNOWN


def test_a_store_of_a_newer_program_is_refused_in_words(tmp_path: Path) -> None:
    with Store.init(tmp_path) as store:
        added(store, checkpoint(tmp_path / "ckpt-1"))
        path = store.path / "catalog.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(StoreVersionError, match="written by a newer mstore") as caught:
        Store.open(tmp_path)
    assert "9999" in caught.value.message
    assert "upgrade mstore" in caught.value.hint


def test_an_empty_catalog_is_brought_up_to_date(tmp_path: Path) -> None:
    with Store.init(tmp_path) as store:
        path = store.path
    for file in path.glob("catalog.db*"):
        file.unlink()
    (path / "catalog.db").touch()
    with Store.open(tmp_path, exact=True) as store:
        assert store.list() == ()
        assert added(store, checkpoint(tmp_path / "ckpt-1")).new


def test_an_upgrade_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = connect(tmp_path / "catalog.db")
    upgrade = schema._upgrade

    def fail(connection: sa.Connection) -> None:
        upgrade(connection)
        raise KeyboardInterrupt

    monkeypatch.setattr(schema, "_upgrade", fail)
    with pytest.raises(KeyboardInterrupt):
        schema.ensure_current(engine)
    with reading(engine) as connection:
        assert sa.inspect(connection).get_table_names() == []
    monkeypatch.undo()
    schema.ensure_current(engine)
    with reading(engine) as connection:
        assert schema.revision(connection) == schema.HEAD
    engine.dispose()


@pytest.mark.parametrize(
    "content", [b"no database at all" * 300, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_file_that_is_no_catalog_is_an_error_with_a_next_step(
    tmp_path: Path, content: bytes
) -> None:
    with Store.init(tmp_path) as store:
        path = store.path
    (path / "catalog.db").write_bytes(content)
    with pytest.raises(Error) as caught:
        Store.open(tmp_path)
    assert isinstance(caught.value, DamagedStoreError)
    assert caught.value.hint
