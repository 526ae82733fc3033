"""Makes what only an administrator can make: roles, database, extension. Harmless when repeated.

A database of our own server is created; one that DATABASE_URL names must exist. Passwords reach the
server as SCRAM verifiers, so that neither its log nor its activity view ever shows one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from orchestrator.errors import DatabaseUnavailable, EnvironmentFault
from orchestrator.store.urls import DatabaseUrls

SERVER_VERSION_MIN = 15
VECTOR_VERSION_MIN = (0, 8)
LOCK = 0x0C0D17EC7  #: key of the advisory lock under which a database is prepared


def make_roles(urls: DatabaseUrls) -> None:
    """Make the three roles, the database of ours and its extension, as the administrator of `urls`.

    Raises:
        DatabaseUnavailable: the administrator cannot log in.
        EnvironmentFault: the server is too old, or the administrator may not do it.
    """
    target = database_of(urls.owner)
    with locked(urls.admin) as admin:
        require_server_version(admin)
        for url in (urls.owner, urls.service, urls.api):
            _make_role(admin, url)
        if admin.info.dbname != target:
            _make_database(admin, target, owner=user_of(urls.owner))
        with connect(make_conninfo(urls.admin, dbname=target)) as inside:
            make_extension(inside)
            _open_schema(inside, urls)


def make_extension(connection: psycopg.Connection[Any]) -> None:
    """Make the extension `vector` in the database of the connection, unless it is there.

    Raises:
        EnvironmentFault: this user may not, or the server does not have it.
    """
    _run(
        connection,
        sql.SQL("CREATE EXTENSION IF NOT EXISTS vector"),
        failure="The extension vector (pgvector) cannot be made",
        remedy="Install pgvector 0.8 or newer on the server; as a superuser run `CREATE EXTENSION vector`.",
    )


def require_server_version(connection: psycopg.Connection[Any]) -> None:
    """Refuse a server that is too old.

    Raises:
        EnvironmentFault: it is.
    """
    found = connection.info.server_version // 10000
    if found < SERVER_VERSION_MIN:
        raise EnvironmentFault(
            f"PostgreSQL {found} at {place_of(connection.info.dsn)} is too old.",
            remedy=f"Use PostgreSQL {SERVER_VERSION_MIN} or newer, or leave DATABASE_URL empty.",
        )


def require_vector_version(connection: psycopg.Connection[Any]) -> None:
    """Refuse a database without pgvector, or with one that is too old.

    Raises:
        EnvironmentFault: it is.
    """
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    found = str(row[0]) if row else "0"
    if tuple(int(part) for part in found.split(".")[:2]) < VECTOR_VERSION_MIN:
        what = f"The extension vector {found} is too old" if row else "The extension vector is missing"
        raise EnvironmentFault(
            f"{what} at {place_of(connection.info.dsn)}.",
            remedy="Install pgvector 0.8 or newer on the server and run there, as a superuser, "
            f"`{'ALTER EXTENSION vector UPDATE' if row else 'CREATE EXTENSION vector'}`.",
        )


def connect(conninfo: str) -> psycopg.Connection[Any]:
    """Connect in autocommit mode.

    Raises:
        DatabaseUnavailable: nobody answers, or the user is refused; the message holds no password.
    """
    try:
        return psycopg.connect(conninfo, autocommit=True, connect_timeout=10)
    except psycopg.Error as error:
        raise DatabaseUnavailable(
            f"PostgreSQL at {place_of(conninfo)} lets {user_of(conninfo)!r} not in: {reason_of(error)}.",
            remedy="Check that the server runs and DATABASE_URL names its host, user, password and database.",
        ) from error


@contextmanager
def locked(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect, and hold the advisory lock of the database until the connection is closed.

    Raises:
        DatabaseUnavailable: as `connect`.
    """
    with connect(conninfo) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        yield connection


def place_of(conninfo: str) -> str:
    """Return `host:port/database` of a URL, for messages."""
    parts = conninfo_to_dict(conninfo)
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{database_of(conninfo)}"


def reason_of(error: psycopg.Error) -> str:
    """Return what the server, or the attempt to reach it, gave as the reason; one line, no full stop."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else type(error).__name__


def user_of(conninfo: str) -> str:
    """Return the user that a URL names."""
    return str(conninfo_to_dict(conninfo).get("user", ""))


def database_of(conninfo: str) -> str:
    """Return the database that a URL names; libpq's default is the name of the user."""
    return str(conninfo_to_dict(conninfo).get("dbname") or user_of(conninfo))


def _make_role(admin: psycopg.Connection[Any], url: str) -> None:
    """Make the role of `url`, or mend its password if it cannot log in with it."""
    role = user_of(url)
    known = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    if known and _can_log_in(make_conninfo(url, dbname=admin.info.dbname)):
        return
    password = str(conninfo_to_dict(url)["password"])
    verifier = admin.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    _run(
        admin,
        sql.SQL("{verb} ROLE {role} LOGIN PASSWORD {verifier}").format(
            verb=sql.SQL("ALTER" if known else "CREATE"),
            role=sql.Identifier(role),
            verifier=sql.Literal(verifier.decode()),
        ),
        failure=f"The role {role} cannot be made",
        remedy="Give the user of DATABASE_URL the right CREATEROLE, or make the roles yourself and set "
        "DATABASE_URL_OWNER, DATABASE_URL_SERVICE and DATABASE_URL_API.",
    )


def _can_log_in(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo, connect_timeout=10).close()
    except psycopg.Error:
        return False
    return True


def _make_database(admin: psycopg.Connection[Any], name: str, *, owner: str) -> None:
    if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
        return
    _run(
        admin,
        sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner)),
        failure=f"The database {name} cannot be made",
        remedy="Free disk space, or make it with `createdb` and name it in DATABASE_URL.",
    )


def _open_schema(admin: psycopg.Connection[Any], urls: DatabaseUrls) -> None:
    """Let the owner make tables in the schema `public` and the others see it."""
    for rights, url in (("USAGE, CREATE", urls.owner), ("USAGE", urls.service), ("USAGE", urls.api)):
        role = user_of(url)
        query = "SELECT bool_and(has_schema_privilege(%s, 'public', r)) FROM unnest(%s::text[]) AS r"
        row = admin.execute(query, (role, rights.split(", "))).fetchone()
        if row is None or not row[0]:
            _run(
                admin,
                sql.SQL("GRANT {} ON SCHEMA public TO {}").format(sql.SQL(rights), sql.Identifier(role)),
                failure=f"The role {role} cannot be let into the schema public",
                remedy=f"As its owner run `GRANT {rights} ON SCHEMA public TO {role}`.",
            )


def _run(
    connection: psycopg.Connection[Any], statement: sql.SQL | sql.Composed, *, failure: str, remedy: str
) -> None:
    try:
        connection.execute(statement)
    except psycopg.Error as error:
        raise EnvironmentFault(
            f"{failure} at {place_of(connection.info.dsn)}: {reason_of(error)}.", remedy=remedy
        ) from error
