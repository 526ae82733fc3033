"""What the API may write."""

from orchestrator.store.privileges import API_WRITES
from orchestrator.store.tables import metadata


def test_writes_name_real_tables_and_columns():
    for table, rights in API_WRITES.items():
        for right in rights:
            verb, _, column = right.rstrip(")").partition(" (")
            assert verb in {"INSERT", "UPDATE"}
            assert column in metadata.tables[table].c if verb == "UPDATE" else not column


def test_nothing_the_scheduler_decides_is_writable():
    scheduler_only = {
        "attempts",
        "leases",
        "event_batches",
        "scheduler_term",
        "orchestrator_state",
    }
    assert not scheduler_only & API_WRITES.keys()
    assert "UPDATE (state)" not in API_WRITES["plans"]
