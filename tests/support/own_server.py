"""A PostgreSQL with our tables that a test may torment: kill it whole, fill its disk, slow it down."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.store.address import read_record
from orchestrator.store.embedded import EmbeddedPostgres, purge
from orchestrator.store.embedded_layout import cluster_name
from orchestrator.store.embedded_os import server_processes
from orchestrator.store.migrate import prepare
from orchestrator.store.urls import DatabaseUrls
from tests.support.postgres import private_home


class OwnServer:
    """The embedded server of a home; all calls belong on the main thread."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._server = EmbeddedPostgres(home=home)
        address = self._server.start()
        self._port = address.port
        self.urls: DatabaseUrls = address.urls()
        record = read_record(home)
        assert record is not None
        self.data_dir = Path(record.data_dir)
        prepare(self.urls)

    def processes(self) -> dict[int, bool]:
        """Return pid → is it the postmaster, of every process of the server."""
        return server_processes(cluster_name(self.data_dir))

    def kill(self) -> None:
        """End every process at once, as a crash of the machine would."""
        found = self.processes()
        for pid in sorted(found, key=lambda pid: not found[pid]):  # the postmaster first: it restarts nobody
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def start(self) -> None:
        """Start it again on its port after it died; raises EnvironmentFault when it does not start."""
        assert self._server.start().port == self._port, "its port was taken meanwhile"

    def is_alive(self) -> bool:
        """Whether the postmaster runs."""
        return self._server.is_alive()

    def stop(self) -> None:
        """End it."""
        self._server.stop()


@contextmanager
def own_server(home: Path | None = None) -> Iterator[OwnServer]:
    """A prepared server in `home`, or in a folder of its own; gone with everything in it afterwards."""
    folder = home or private_home()
    try:
        server = OwnServer(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        purge(folder)
        if home is None:
            shutil.rmtree(folder)
