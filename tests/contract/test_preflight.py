"""What the doctor says of a real database that DATABASE_URL names."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from cluster.preflight import Check, CheckState, check_database
from orchestrator.errors import DatabaseUnavailable
from orchestrator.settings import Settings
from orchestrator.store.address import BOOTSTRAP
from orchestrator.store.urls import DatabaseUrls
from tests.support.postgres import running_server


def settings(home: Path, urls: DatabaseUrls, **changed: str) -> Settings:
    given = {
        "url": urls.service,
        "url_owner": urls.owner,
        "url_service": urls.service,
        "url_api": urls.api,
        "url_direct": urls.direct,
    }
    return Settings(home=home, database=given | changed)


def examine(settings: Settings) -> list[Check]:
    return list(check_database(settings))


def test_a_prepared_database_is_fit(tmp_path: Path, database: DatabaseUrls) -> None:
    (check,) = examine(settings(tmp_path, database))
    assert check.state is CheckState.OK
    assert str(conninfo_to_dict(database.owner)["password"]) not in check.what


def test_a_role_that_is_not_let_in_is_named(tmp_path: Path, database: DatabaseUrls) -> None:
    password = str(conninfo_to_dict(database.api)["password"])
    checks = examine(settings(tmp_path, database, url_api=database.api.replace(password, "wrong")))
    assert [check.state for check in checks] == [CheckState.FAIL]
    assert "orchestrator_api" in checks[0].what
    assert checks[0].remedy


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    nobody = Settings(home=tmp_path, database={"url": "postgresql://u:hidden@127.0.0.1:1/db"})
    with pytest.raises(DatabaseUnavailable) as caught:  # the doctor turns it into a failed check
        examine(nobody)
    assert "hidden" not in str(caught.value)


def test_a_server_that_was_never_prepared_is_a_warning(tmp_path: Path) -> None:
    with running_server() as fresh:
        url = fresh.url(BOOTSTRAP, database=BOOTSTRAP)
        (check,) = examine(Settings(home=tmp_path, database={"url": url}))
    assert check.state is CheckState.WARN
    assert "is not prepared yet" in check.what
    assert "CREATEROLE" in check.remedy


def test_the_embedded_server_is_examined_while_it_runs(tmp_path: Path) -> None:
    (check,) = examine(Settings(home=tmp_path))
    assert (check.state, "not running" in check.what) == (CheckState.OK, True)
