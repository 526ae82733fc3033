"""Who may do what in which table: grants and row level security, compared with the server and mended.

`service` sees and changes every row by an explicit policy; `api` sees the rows of the tenant that its
transaction names in `app.tenant`, and writes only what is new: plans with their agent types, revisions,
proposals and notes. Whoever names no tenant sees nothing, and nobody sees journals but `service`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql
from sqlalchemy import Connection, Table

from orchestrator.store.tables import EVENTS_VIEW, journal_entries, metadata, token_sequence

#: What `api` may do besides SELECT. Every change to an existing task is the scheduler's.
API_WRITES = {
    "plans": ("INSERT", "UPDATE (name)"),
    "plan_files": ("INSERT",),
    "plan_revisions": ("INSERT",),
    "proposals": ("INSERT",),
    "notes": ("INSERT",),
    "agent_types": ("INSERT", "UPDATE (definition)", "UPDATE (fault)", "UPDATE (updated_at)"),
    "tasks": ("INSERT",),
    "task_states": ("INSERT",),
    "task_dependencies": ("INSERT",),
    "routing_decisions": ("INSERT",),
    "idempotency_keys": ("INSERT", "UPDATE (response)"),
}
_HIDDEN_FROM_API = frozenset({journal_entries.name})  # exact words of sessions, secrets included
_API_SEQUENCES = ("tasks_id_seq",)  # ids are taken before the rows of a plan are written
_SERVICE_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
# As PostgreSQL writes them back, so that they can be compared.
_ALL_ROWS = "true"
_TENANT_ROWS = "(tenant_id = current_setting('app.tenant'::text, true))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Privilege:
    """One wish: `probe` is an expression that is true when it holds, `statements` make it hold."""

    name: str
    probe: str
    statements: tuple[str, ...]


def missing_privileges(connection: Connection, *, service: str, api: str) -> tuple[Privilege, ...]:
    """Return what the roles of these names lack, in the order in which it is to be given."""
    wanted = tuple(_wanted(service=service, api=api))
    probes = ", ".join(privilege.probe for privilege in wanted)
    holds = connection.exec_driver_sql(f"SELECT {probes}").one()
    return tuple(privilege for privilege, held in zip(wanted, holds, strict=True) if not held)


def give_missing_privileges(connection: Connection, *, service: str, api: str) -> None:
    """Give the roles what they lack; statements run, and locks are taken, for that only."""
    for privilege in missing_privileges(connection, service=service, api=api):
        for statement in privilege.statements:
            connection.exec_driver_sql(statement)


def _wanted(*, service: str, api: str) -> Iterator[Privilege]:
    for table in metadata.sorted_tables:
        yield from _table_security(table, service=service)
        for right in _SERVICE_RIGHTS:
            yield _right(right, table.name, role=service)
        if table.name not in _HIDDEN_FROM_API:
            yield _policy(table, "api_tenant", role=api, rows=_TENANT_ROWS)
            for right in ("SELECT", *API_WRITES.get(table.name, ())):
                yield _right(right, table.name, role=api)
    for role in (service, api):
        yield _right("SELECT", EVENTS_VIEW, role=role)
    for name in (token_sequence.name, *_API_SEQUENCES):
        yield _sequence_right(name, role=service)
    for name in _API_SEQUENCES:
        yield _sequence_right(name, role=api)
    yield _temporary_right(service)


def _table_security(table: Table, *, service: str) -> Iterator[Privilege]:
    oid = f"{_literal(table.name)}::regclass"
    yield Privilege(
        name=f"row level security on {table.name}",
        probe=f"EXISTS (SELECT FROM pg_class WHERE oid = {oid} AND relrowsecurity)",
        statements=(f"ALTER TABLE {_name(table.name)} ENABLE ROW LEVEL SECURITY",),
    )
    yield _policy(table, "service_all", role=service, rows=_ALL_ROWS)


def _policy(table: Table, name: str, *, role: str, rows: str) -> Privilege:
    on = f"{_name(name)} ON {_name(table.name)}"
    found = {"tablename": table.name, "policyname": name, "qual": rows, "with_check": rows}
    conditions = [f"{column} = {_literal(value)}" for column, value in found.items()]
    conditions.append(f"schemaname = 'public' AND roles = ARRAY[{_literal(role)}]::name[]")
    return Privilege(
        name=f"policy {name} on {table.name}",
        probe=f"EXISTS (SELECT FROM pg_policies WHERE {' AND '.join(conditions)})",
        statements=(
            f"DROP POLICY IF EXISTS {on}",
            f"CREATE POLICY {on} TO {_name(role)} USING ({rows}) WITH CHECK ({rows})",
        ),
    )


def _right(right: str, relation: str, *, role: str) -> Privilege:
    """`right` is `SELECT` or, for one column, `UPDATE (name)`."""
    verb, _, column = right.rstrip(")").partition(" (")
    function, names = ("column", (relation, column)) if column else ("table", (relation,))
    arguments = ", ".join(_literal(text) for text in (role, *names, verb))
    return Privilege(
        name=f"{right} on {relation} for {role}",
        probe=f"has_{function}_privilege({arguments})",
        statements=(f"GRANT {right} ON {_name(relation)} TO {_name(role)}",),
    )


def _sequence_right(sequence: str, *, role: str) -> Privilege:
    return Privilege(
        name=f"USAGE on {sequence} for {role}",
        probe=f"has_sequence_privilege({_literal(role)}, {_literal(sequence)}, 'USAGE')",
        statements=(f"GRANT USAGE ON SEQUENCE {_name(sequence)} TO {_name(role)}",),
    )


def _temporary_right(role: str) -> Privilege:
    """The committer defines the function that it calls for itself (docs/adr/0018)."""
    to = _literal(f" TO {_name(role)}")
    grant = f"EXECUTE 'GRANT TEMPORARY ON DATABASE ' || quote_ident(current_database()) || {to}"
    return Privilege(
        name=f"TEMPORARY on the database for {role}",
        probe=f"has_database_privilege({_literal(role)}, current_database(), 'TEMPORARY')",
        statements=(f"DO $grant$ BEGIN {grant}; END $grant$",),
    )


def _name(text: str) -> str:
    return sql.Identifier(text).as_string(None)


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None)
