"""Brings a database to the state that this release needs, and says what is missing.

Roles first, as the administrator; then, as the owner and in one transaction, the migrations, the grants
and the policies. All under an advisory lock: of two that start at once one waits, then has nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, NullPool, create_engine, make_url
from sqlalchemy.exc import DBAPIError

from orchestrator.errors import DatabaseUnavailable, EnvironmentFault
from orchestrator.store import roles
from orchestrator.store.privileges import give_missing_privileges, missing_privileges
from orchestrator.store.urls import DatabaseUrls

_UPGRADE = "Run `orchestrator up`, which brings the database up to date."


def prepare(urls: DatabaseUrls) -> None:
    """Make roles, database, extension and tables, or bring them up to date; harmless when repeated.

    Raises:
        DatabaseUnavailable: a role cannot log in.
        EnvironmentFault: server or extension too old, rights missing, or a database of a newer release.
    """
    if urls.admin:
        roles.make_roles(urls)
    service, api = roles.user_of(urls.service), roles.user_of(urls.api)
    with roles.locked(urls.owner) as owner:
        roles.require_server_version(owner)
        roles.make_extension(owner)
        roles.require_vector_version(owner)
        with _transaction(urls.owner) as connection:
            _upgrade(connection, url=urls.owner)
            give_missing_privileges(connection, service=service, api=api)


def check(urls: DatabaseUrls) -> tuple[EnvironmentFault, ...]:
    """Return everything that keeps this release from using the database; changes nothing."""
    faults: list[EnvironmentFault] = []
    for find in (_connection_faults, _server_faults, _schema_faults):
        try:
            faults += find(urls)
        except EnvironmentFault as fault:
            return (*faults, fault)
    return tuple(faults)


def _connection_faults(urls: DatabaseUrls) -> Iterator[EnvironmentFault]:
    roles.connect(urls.owner).close()  # without the owner nothing else can be asked
    for url in (urls.service, urls.api, urls.direct):
        try:
            roles.connect(url).close()
        except DatabaseUnavailable as fault:
            yield fault


def _server_faults(urls: DatabaseUrls) -> Iterator[EnvironmentFault]:
    with roles.connect(urls.owner) as owner:
        for require in (roles.require_server_version, roles.require_vector_version):
            try:
                require(owner)
            except EnvironmentFault as fault:
                yield fault


def _schema_faults(urls: DatabaseUrls) -> Iterator[EnvironmentFault]:
    with _transaction(urls.owner) as connection:
        found, wanted = MigrationContext.configure(connection).get_current_revision(), head()
        if found != wanted:
            place = roles.place_of(urls.owner)
            yield EnvironmentFault(
                f"The tables at {place} are at revision {found or 'none'}, not {wanted}.",
                remedy=_UPGRADE,
            )
            return
        service, api = roles.user_of(urls.service), roles.user_of(urls.api)
        missing = missing_privileges(connection, service=service, api=api)
        if missing:
            names = ", ".join(privilege.name for privilege in missing[:3])
            yield EnvironmentFault(
                f"{len(missing)} privileges are missing at {roles.place_of(urls.owner)}: {names}, …",
                remedy=_UPGRADE,
            )


def head() -> str:
    """Return the revision of the tables that this release needs."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _upgrade(connection: Connection, *, url: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        found = MigrationContext.configure(connection).get_current_revision()
        raise EnvironmentFault(
            f"The tables at {roles.place_of(url)} are at revision {found}, which a newer release made.",
            remedy="Install that release or a newer one.",
        ) from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "orchestrator.store:migrations")
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _transaction(url: str) -> Iterator[Connection]:
    """Open one transaction; what the server refuses in it becomes an EnvironmentFault."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        if not isinstance(error.orig, InsufficientPrivilege | psycopg.OperationalError):
            raise  # a defect of a migration, not of the server
        owner, place = roles.user_of(url), roles.place_of(url)
        raise EnvironmentFault(
            f"The tables at {place} cannot be brought up to date: {roles.reason_of(error.orig)}.",
            remedy=f"Check the disk of the server, and that {owner} owns the tables and may make them: "
            f"the owner of the database runs `GRANT USAGE, CREATE ON SCHEMA public TO {owner}`.",
        ) from error
    finally:
        engine.dispose()
