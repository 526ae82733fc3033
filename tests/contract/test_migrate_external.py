"""A server of somebody else, reached by DATABASE_URL, with users of few rights."""

import psycopg
import pytest

from orchestrator.errors import DatabaseUnavailable, EnvironmentFault
from orchestrator.store.address import BOOTSTRAP
from orchestrator.store.migrate import check, prepare
from orchestrator.store.urls import OWNER, external_urls
from tests.support.postgres import VERSIONS, running_server

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module", params=VERSIONS)
def bare_server(request):
    """A server with nothing on it."""
    with running_server(request.param) as address:
        yield address


@pytest.fixture
def server(bare_server):
    """A server on which somebody has made a database `work` with the extension, and nothing of ours."""
    known = roles(bare_server)
    run(bare_server, "CREATE DATABASE work", database=BOOTSTRAP)
    run(bare_server, "CREATE EXTENSION vector")
    yield bare_server
    run(bare_server, "DROP DATABASE work WITH (FORCE)", database=BOOTSTRAP)
    run(bare_server, f"DROP ROLE {', '.join(roles(bare_server) - known)}", database=BOOTSTRAP)


def run(address, *statements, database="work"):
    with psycopg.connect(address.url(BOOTSTRAP, database=database), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def roles(address):
    return {
        name for (name,) in query(address.url(BOOTSTRAP, database=BOOTSTRAP), "SELECT rolname FROM pg_roles")
    }


def url(address, user, password="pw"):
    return f"postgresql://{user}:{password}@127.0.0.1:{address.port}/work"


def query(conninfo, statement):
    with psycopg.connect(conninfo) as connection:
        return connection.execute(statement).fetchall()


def test_owner_of_the_database_with_createrole_is_enough(server):
    run(server, "CREATE ROLE ada LOGIN CREATEROLE PASSWORD 'pw'", "ALTER DATABASE work OWNER TO ada")
    urls = external_urls(url(server, "ada"))
    prepare(urls)
    prepare(urls)
    assert check(urls) == ()
    assert query(urls.service, "SELECT tenant_id FROM tenants") == [("local",)]
    assert query(urls.api, "SELECT tenant_id FROM tenants") == []


def test_new_password_of_the_administrator_changes_those_of_the_roles(server):
    run(server, "CREATE ROLE ada LOGIN CREATEROLE PASSWORD 'pw'", "ALTER DATABASE work OWNER TO ada")
    before = external_urls(url(server, "ada"))
    prepare(before)
    run(server, "ALTER ROLE ada PASSWORD 'new'")
    prepare(external_urls(url(server, "ada", "new")))
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(before.api)


def test_user_without_createrole_is_told_both_remedies(server):
    run(server, "CREATE ROLE bob LOGIN PASSWORD 'pw'", "ALTER DATABASE work OWNER TO bob")
    with pytest.raises(EnvironmentFault, match=r"permission denied.*CREATEROLE.*DATABASE_URL_OWNER"):
        prepare(external_urls(url(server, "bob")))


def test_user_who_may_not_open_the_schema_is_told_the_statement(server):
    run(server, "CREATE ROLE eve LOGIN CREATEROLE PASSWORD 'pw'")
    with pytest.raises(EnvironmentFault, match=f"GRANT USAGE, CREATE ON SCHEMA public TO {OWNER}"):
        prepare(external_urls(url(server, "eve")))


def test_missing_extension_is_told_with_the_statement(server):
    run(server, "CREATE ROLE ada LOGIN CREATEROLE PASSWORD 'pw'", "ALTER DATABASE work OWNER TO ada")
    run(server, "DROP EXTENSION vector")
    with pytest.raises(EnvironmentFault, match=r"permission denied.*CREATE EXTENSION vector"):
        prepare(external_urls(url(server, "ada")))


def test_given_roles_need_no_administrator(server):
    for name in ("mine_o", "mine_s", "mine_a"):
        run(server, f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
    run(server, "GRANT USAGE, CREATE ON SCHEMA public TO mine_o")
    given = {"owner": url(server, "mine_o"), "service": url(server, "mine_s"), "api": url(server, "mine_a")}
    urls = external_urls(url(server, "ignored"), **given)
    prepare(urls)
    assert check(urls) == ()
    assert query(urls.service, "SELECT tenant_id FROM tenants") == [("local",)]
    assert query(urls.api, "SELECT tenant_id FROM tenants") == []


def test_absent_database_is_named(server):
    run(server, "CREATE ROLE ada LOGIN CREATEROLE PASSWORD 'pw'")
    with pytest.raises(DatabaseUnavailable, match=r'database "elsewhere" does not exist'):
        prepare(external_urls(url(server, "ada").replace("/work", "/elsewhere")))
