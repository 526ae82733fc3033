"""The address and its file."""

import stat

import pytest

from orchestrator.errors import EnvironmentFault
from orchestrator.store.address import Address, Record, read_record, record_path, write_record

PASSWORDS = {"postgres": "p@ss/word:1", "orchestrator_api": "x"}


def test_url_quotes_the_password():
    address = Address(port=5, passwords=PASSWORDS)
    assert address.url("postgres") == "postgresql://postgres:p%40ss%2Fword%3A1@127.0.0.1:5/orchestrator"
    assert address.url("orchestrator_api", database="t1").endswith(":x@127.0.0.1:5/t1")


def test_no_repr_shows_a_password():
    shown = repr(Address(port=5, passwords=PASSWORDS)) + repr(
        Record(version="18", data_dir="/d", passwords=PASSWORDS)
    )
    assert "p@ss" not in shown


def test_record_comes_back_as_written_and_is_private(tmp_path):
    record = Record(version="18", data_dir="/d", passwords=PASSWORDS, port=7, owner_pid=8, owner_started=9)
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert stat.S_IMODE(record_path(tmp_path).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["postgres.json"]


def test_absent_record_is_none(tmp_path):
    assert read_record(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"port": 1}', ""])
def test_damaged_record_is_named_with_its_remedy(tmp_path, text):
    record_path(tmp_path).write_text(text)
    with pytest.raises(EnvironmentFault, match=r"postgres\.json is damaged.*Restore the file"):
        read_record(tmp_path)
