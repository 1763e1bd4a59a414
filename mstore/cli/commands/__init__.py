"""One command a module: parse, one call of the store, present."""
