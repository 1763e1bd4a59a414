"""The page of a store."""

from mstore.cli.output import Line, Page


def store_page(path: str, *, created: bool) -> Page:
    """Return the page of ``mstore init``."""
    text = f"made a store: {path}" if created else f"a store is already here: {path}"
    return Page({"path": path, "created": created}, (path,), (Line(text),))
