"""The catalog: an index in SQLite over facts that are safe in packs."""
