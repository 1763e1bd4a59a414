"""What relies on objects that are stored already looks again when it is committed.

Between the moment in which an add finds a chunk in the store and the moment in which it says so in
the catalog, gc may have dropped that chunk: nothing live was made of it.
"""

from collections.abc import Container

import sqlalchemy as sa

from mstore.catalog import objects
from mstore.errors import StoreLockedError
from mstore.objects.manifest import Manifest


def gone(connection: sa.Connection, manifest: Manifest, own: Container[bytes]) -> set[bytes]:
    """Return the chunks of a manifest that neither the store has nor ``own``, the new pack.

    Args:
        connection: in the transaction that makes the manifest known.
        manifest: the manifest.
        own: ids of the objects in the pack that comes with it.
    """
    return objects.absent(connection, [key for key in manifest.chunks() if key not in own])


def ensure_there(connection: sa.Connection, manifest: Manifest, own: Container[bytes]) -> None:
    """Check that nothing of a manifest has gone; see `gone`.

    Raises:
        StoreLockedError: gc dropped some of it meanwhile.
    """
    if gone(connection, manifest, own):
        raise StoreLockedError(
            "gc dropped bytes that this command relied on while it ran",
            hint="nothing was recorded; run the command again",
        )
