"""Keep the ledger complete."""

from contextlib import suppress

from mstore.catalog import journal
from mstore.catalog.engine import reading, writing
from mstore.errors import Error
from mstore.ops.context import Context


def complete_ledger(context: Context) -> None:
    """Write the ledger anew where the power took its end, so that the catalog may be lost again.

    Where that cannot be done now, the next change does it; `verify` tells until then.
    """
    with reading(context.engine) as connection:
        behind = journal.is_behind(connection, context.root)
    if behind:
        with suppress(Error), writing(context.engine) as connection:
            if journal.is_behind(connection, context.root):
                journal.begin_anew(connection, context.root)
