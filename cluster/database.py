"""The database of a Host: the embedded PostgreSQL as its child, or the server that DATABASE_URL names."""

from __future__ import annotations

from orchestrator.errors import EnvironmentFault
from orchestrator.settings import Settings
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.store.urls import DatabaseUrls, settings_urls


class HostDatabase:
    """Starts, watches and stops the database as far as it is ours.

    All calls belong on the main thread: the kernel ends PostgreSQL when the thread that started it ends.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        is_embedded = settings.database.is_embedded
        version = settings.database.embedded_version
        self._embedded = EmbeddedPostgres(home=settings.home, version=version) if is_embedded else None

    def start(self) -> DatabaseUrls:
        """Return where each role connects; the server answers, its tables are not prepared yet.

        Raises:
            EnvironmentFault: the embedded server does not start.
            SettingsError: the URLs contradict each other.
        """
        if self._embedded is not None:
            return self._embedded.start().urls()
        return settings_urls(self._settings.database)

    def restart_if_dead(self) -> bool:
        """Start the embedded server again on its port if it has ended; tell whether it had.

        Raises:
            EnvironmentFault: it does not start.
        """
        if self._embedded is None or self._embedded.is_alive():
            return False
        self._embedded.start()
        return True

    def stop(self) -> None:
        """End the embedded server by its fast shutdown."""
        if self._embedded is not None:
            self._embedded.stop()


def require_shared_database(settings: Settings, *, nodes: int) -> None:
    """Refuse the embedded server for a cluster of several nodes: it listens on this machine alone.

    Raises:
        EnvironmentFault: there is more than one node and no DATABASE_URL.
    """
    if settings.database.is_embedded and nodes > 1:
        raise EnvironmentFault(
            f"The Ray cluster at {settings.ray.address} has {nodes} nodes; the embedded PostgreSQL "
            "serves this machine alone.",
            remedy="Set DATABASE_URL to a PostgreSQL 15 or newer, with pgvector 0.8 or newer, that every "
            "node reaches.",
        )
