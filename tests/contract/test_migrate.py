"""Roles, migrations, privileges and row level security on real servers of both versions."""

import threading
from dataclasses import replace

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from orchestrator.errors import DatabaseUnavailable, EnvironmentFault
from orchestrator.store import roles
from orchestrator.store.address import BOOTSTRAP
from orchestrator.store.batches import COMMIT
from orchestrator.store.migrate import check, head, prepare
from orchestrator.store.tables import metadata
from orchestrator.store.urls import API, OWNER, SERVICE
from tests.support.postgres import on_both_versions, own_database

pytestmark = [pytest.mark.postgres, on_both_versions]


@pytest.fixture
def fresh(postgres):
    """An address whose database does not exist yet."""
    address = replace(postgres, database="fresh")
    yield address
    with psycopg.connect(address.urls().admin, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS fresh WITH (FORCE)")


def execute(url, statement, *, tenant=None):
    """Run one statement in a transaction of its own; return its rows."""
    with psycopg.connect(url) as connection:
        if tenant is not None:
            connection.execute("SELECT set_config('app.tenant', %s, true)", (tenant,))
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def engine(url):
    return sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)


def messages(urls):
    return [str(fault) for fault in check(urls)]


# -- prepare ----------------------------------------------------------------------------------------------


def test_fresh_server_becomes_usable(fresh):
    prepare(fresh.urls())
    assert check(fresh.urls()) == ()
    assert execute(fresh.urls().owner, "SELECT version_num FROM alembic_version") == [(head(),)]
    assert execute(fresh.urls().service, "SELECT tenant_id FROM tenants") == [("local",)]


def test_twice_is_harmless_and_changes_nothing(database):
    roles_of_server = "SELECT rolname, xmin::text FROM pg_authid"
    tables_here = "SELECT relname, xmin::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    before = execute(database.admin, roles_of_server), execute(database.owner, tables_here)
    prepare(database)
    assert (execute(database.admin, roles_of_server), execute(database.owner, tables_here)) == before


def test_many_at_once_all_succeed(fresh):
    errors = []

    def run():
        try:
            prepare(fresh.urls())
        except Exception as error:  # noqa: BLE001  told below
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert check(fresh.urls()) == ()


def test_second_waits_for_the_first(database):
    with roles.locked(database.owner):
        second = threading.Thread(target=prepare, args=(database,))
        second.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        with psycopg.connect(database.service, autocommit=True) as watcher:
            while watcher.execute(waiting).fetchone()[0] == 0:
                assert second.is_alive()
    second.join(30)
    assert not second.is_alive()


def test_failed_migration_leaves_nothing(fresh, monkeypatch):
    def fail(*args, **kwargs):
        raise sa.exc.ProgrammingError("s", {}, psycopg.errors.DiskFull("could not extend file"))

    monkeypatch.setattr("orchestrator.store.migrate.give_missing_privileges", fail)
    with pytest.raises(EnvironmentFault, match="could not extend file"):
        prepare(fresh.urls())
    assert execute(fresh.urls().owner, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_no_role_is_more_than_it_must_be(database):
    rights = (
        "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls FROM pg_roles WHERE rolname = "
    )
    for role in (OWNER, SERVICE, API):
        assert execute(database.owner, f"{rights}'{role}'") == [(role, False, False, False, False)]
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert execute(database.owner, owners) == [(OWNER,)]


def test_lost_password_of_a_role_is_mended(database):
    execute(database.admin, f"ALTER ROLE {API} PASSWORD 'other'")
    assert any("orchestrator_api' not in" in message for message in messages(database))
    prepare(database)
    assert check(database) == ()


# -- the schema is what tables.py says --------------------------------------------------------------------

CATALOG = {
    "columns": """
        SELECT table_name, column_name, data_type, is_nullable, column_default, identity_generation
        FROM information_schema.columns WHERE table_schema = 'public'""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype <> 'n'""",
    "storage": "SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'public'::regnamespace",
    "sequences": "SELECT sequencename, start_value, increment_by FROM pg_sequences",
}


def test_alembic_sees_no_difference(database):
    connected = engine(database.owner)
    with connected.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_catalog_is_the_same_as_made_from_the_metadata(migrated, database):
    with own_database(migrated) as made:
        connected = engine(made.url(BOOTSTRAP))
        with connected.begin() as connection:
            metadata.create_all(connection)
        for query in CATALOG.values():
            rows = {str(row) for row in execute(database.owner, query) if "alembic" not in str(row)}
            assert rows == {str(row) for row in execute(made.url(BOOTSTRAP), query)}


# -- row level security -----------------------------------------------------------------------------------


@pytest.fixture
def two_tenants(database):
    for tenant in ("one", "two"):
        execute(
            database.service,
            f"INSERT INTO plans (tenant_id, name, source_digest) VALUES ('{tenant}', 'p', '')",
        )
    return database


def test_api_without_a_tenant_sees_nothing(two_tenants):
    assert execute(two_tenants.api, "SELECT * FROM plans") == []
    assert execute(two_tenants.api, "SELECT * FROM plans", tenant="") == []


def test_api_sees_its_tenant_and_no_other(two_tenants):
    assert execute(two_tenants.api, "SELECT tenant_id FROM plans", tenant="one") == [("one",)]
    other = "SELECT tenant_id FROM plans WHERE tenant_id = 'two'"
    assert execute(two_tenants.api, other, tenant="one") == []
    assert execute(two_tenants.api, "UPDATE plans SET name = 'x' RETURNING tenant_id", tenant="one") == [
        ("one",)
    ]


def test_api_cannot_write_for_another_tenant(two_tenants):
    insert = "INSERT INTO plans (tenant_id, name, source_digest) VALUES ('two', 'q', '')"
    for tenant in ("one", None):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            execute(two_tenants.api, insert, tenant=tenant)


def test_service_sees_all(two_tenants):
    assert sorted(execute(two_tenants.service, "SELECT tenant_id FROM plans")) == [("one",), ("two",)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE plans SET state = 'done'",
        "DELETE FROM plans",
        "UPDATE task_states SET state = 'done'",
        "INSERT INTO event_batches (last_seq) VALUES (1)",
        "SELECT nextval('attempt_tokens')",
        "ALTER TABLE plans DISABLE ROW LEVEL SECURITY",
        "SELECT * FROM pg_authid",
        "SELECT * FROM journal_entries",
        "CREATE TABLE t ()",
    ],
)
def test_api_may_not(two_tenants, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(two_tenants.api, statement, tenant="one")


def test_every_table_has_a_tenant_and_is_guarded(database):
    query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    guarded = {name for (name,) in execute(database.owner, f"{query} AND relrowsecurity")}
    assert guarded == set(metadata.tables)
    assert all("tenant_id" in table.c for table in metadata.tables.values())
    assert {name for (name,) in execute(database.owner, query)} - guarded == {"alembic_version"}


def test_service_takes_tokens_and_ids(database):
    assert execute(database.service, "SELECT nextval('attempt_tokens')") == [(1,)]
    assert execute(database.api, "SELECT nextval('tasks_id_seq')") == [(1,)]


# -- check ------------------------------------------------------------------------------------------------


def test_missing_privilege_is_named_and_mended(database):
    execute(database.owner, f"REVOKE INSERT ON plans FROM {SERVICE}")
    execute(database.owner, "DROP POLICY api_tenant ON event_batches")
    execute(database.owner, f"CREATE POLICY api_tenant ON event_batches TO {API} USING (true)")
    (text,) = messages(database)
    assert "INSERT on plans" in text
    assert "policy api_tenant on event_batches" in text
    prepare(database)
    assert check(database) == ()
    assert execute(database.api, "SELECT * FROM events") == []


def test_a_right_to_the_committers_function_that_was_taken_from_everybody_is_given(database):
    ((name,),) = execute(database.owner, "SELECT current_database()")
    execute(database.owner, f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC')
    assert ["TEMPORARY on the database" in text for text in messages(database)] == [True]
    prepare(database)
    assert check(database) == ()
    execute(database.service, COMMIT.function)


def test_unmigrated_database_is_named(postgres, migrated):
    with own_database(migrated) as empty:
        execute(empty.url(BOOTSTRAP), "CREATE EXTENSION vector")
        assert messages(empty.urls()) == [
            f"The tables at 127.0.0.1:{empty.port}/{empty.database} are at revision none, not {head()}. "
            "Run `orchestrator up`, which brings the database up to date."
        ]


def test_missing_extension_is_named(migrated):
    with own_database(migrated) as empty:
        assert any("extension vector is missing" in text for text in messages(empty.urls()))


def test_database_of_a_newer_release_is_refused(database):
    execute(database.owner, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(EnvironmentFault, match=r"revision 9999, which a newer release made.*Install"):
        prepare(database)
    assert any("revision 9999" in text for text in messages(database))


def test_absent_server_is_named_without_the_password(database):
    nowhere = "postgresql://u:hidden@127.0.0.1:9/none"
    gone = replace(database, admin=nowhere, owner=nowhere)
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:9/none.*refused") as caught:
        prepare(gone)
    assert [type(fault) for fault in check(gone)] == [DatabaseUnavailable]
    assert "hidden" not in str(caught.value) + "".join(messages(gone))
