"""See that the server of a target serves what was put before it, and gives what it should."""

from collections.abc import Mapping
from dataclasses import dataclass

from mstore.catalog import checkpoints as queries
from mstore.catalog.engine import reading
from mstore.catalog.versions import VersionRow
from mstore.domain.servers import Confirmation, ServerAddress, VersionStatus
from mstore.domain.targets import Site
from mstore.errors import Error, PartialError, ServerError
from mstore.ops.context import Context
from mstore.serving.server import SECONDS, ModelServer, connect
from mstore.serving.waiting import wait_available


@dataclass(frozen=True, eq=False)
class Watch:
    """A server that was asked before anything is done.

    Attributes:
        context: the store.
        address: where it is.
        server: how to talk to it.
        before: what it said of the model's versions.
        how: how it is asked.
    """

    context: Context
    address: str
    server: ModelServer
    before: Mapping[int, VersionStatus]
    how: Confirmation

    @classmethod
    def open(cls, context: Context, address: str, model: str, how: Confirmation) -> "Watch":
        """Ask a server what it has.

        Raises:
            ServerError: it does not answer.
            MissingExtraError: it speaks gRPC, and grpcio is not installed.
        """
        # One answer may not take longer than all of them together.
        server = connect(ServerAddress.parse(address), min(SECONDS, max(how.seconds, 1.0)))
        try:
            return cls(context, address, server, server.status(model), how)
        except ServerError:
            server.close()
            raise

    def close(self) -> None:
        """Let the connection go."""
        self.server.close()

    def confirm(self, row: VersionRow, *, parity: bool = True) -> dict[str, object]:
        """Wait until the server has a version available, and ask for its golden example.

        Returns:
            What is told of it: ``server``, ``state``, ``seconds``, ``parity``, and where the
            example was asked for ``largest_difference``, else ``note``.

        Raises:
            NotServedError: the server could not load it, or time is up.
            ServerError: the server does not answer, or not to the golden example.
            ParityError: what it gives is not what was recorded.
        """
        version = row.version
        name = f"{version.model}:{version.version}"
        self.context.progress.start(f"waiting for {self.address} to serve {name}", None)
        try:
            took = wait_available(
                self.server,
                version.model,
                version.version,
                seconds=self.how.seconds,
                before=self.before,
            )
            told: dict[str, object] = {
                "server": self.address,
                "state": "AVAILABLE",
                "seconds": round(took, 3),
            }
            if not parity:
                return {**told, "parity": "skipped"}
            return {**told, **self._parity(row)}
        finally:
            self.context.progress.finish()

    def _parity(self, row: VersionRow) -> dict[str, object]:
        version = row.version
        with reading(self.context.engine) as connection:
            (checkpoint,) = queries.by_seq(connection, [row.checkpoint])
        if checkpoint.checkpoint.example is None:
            return {"parity": "skipped", "note": "the checkpoint has no golden example"}
        # What has to do with arrays brings numpy along.
        from mstore.convert.examples import Tolerance, ensure_parity  # noqa: PLC0415
        from mstore.ops.golden import golden_example  # noqa: PLC0415
        from mstore.ops.made import ExportOptions  # noqa: PLC0415

        example = golden_example(self.context, checkpoint, ExportOptions(), version.signatures)
        if example is None or not example.outputs:
            return {"parity": "skipped", "note": "the golden example has no outputs"}
        signature = version.signatures[example.signature]
        reason = self.server.refuses(signature)
        if reason is not None:
            return {"parity": "skipped", "note": reason}
        outputs = self.server.predict(
            version.model, version.version, example.signature, signature, example.inputs
        )
        figures = ensure_parity(example, outputs, Tolerance(self.how.atol, self.how.rtol))
        return {"parity": "passed", "largest_difference": figures["largest_difference"]}


def watch_site(context: Context, site: Site, model: str, how: Confirmation | None) -> Watch | None:
    """Ask the server of a base path what it has; None if it has none, or is not to be asked.

    Raises:
        ServerError: it does not answer.
        MissingExtraError: it speaks gRPC, and grpcio is not installed.
    """
    server = None if site.target is None else site.target.server
    if server is None or how is None:
        return None
    return Watch.open(context, server, model, how)


def confirm_return(watch: Watch | Error | None, row: VersionRow) -> dict[str, object] | None:
    """Return what the server says of a version that was gone back to.

    Args:
        watch: the server, the error that it gave when it was asked before, or None for no server.
        row: the version.

    Raises:
        PartialError: it does not serve it as it should; the directory is as it was asked for.
    """
    if watch is None:
        return None
    try:
        if isinstance(watch, Error):
            raise watch
        return watch.confirm(row)
    except Error as error:
        name = f"{row.version.model}:{row.version.version}"
        raise PartialError(
            f"{name} is the highest in the directory again, and its server does not confirm it: "
            f"{error.message}",
            hint=error.hint or "see the server's log",
        ) from error
    finally:
        if isinstance(watch, Watch):
            watch.close()
