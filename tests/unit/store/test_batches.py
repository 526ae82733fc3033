"""What a batch says to the tables; what it does to them is shown by the contract tests."""

from __future__ import annotations

from orchestrator.core.commands import AskCancel, MarkStarted, RowCommand
from orchestrator.core.words import TaskState
from orchestrator.store.batches import COMMIT, TABLES, rows_by_kind
from tests.support.rows import end, lease, record, save


def of(*rows: RowCommand) -> dict[str, list[str]]:
    """Return the columns of every table that a batch writes."""
    arguments = COMMIT.arguments(rows_by_kind(rows), batch=9, epoch=3, cluster_id="c1", channel="events")
    assert arguments[:4] == ["9", "3", "c1", "events"]
    columns = iter(arguments[4:])
    found = {table.what: [next(columns) for _ in table.types] for table in TABLES}
    assert next(columns, None) is None
    return {what: [c for c in given if c is not None] for what, given in found.items() if any(given)}


def test_each_table_gets_its_rows_as_columns_in_the_order_of_the_transaction() -> None:
    rows = [
        record("attempt.leased", plan_id=1),
        AskCancel(token=9, reason="stop"),
        lease(8, plan_id=1, task_id=5, number=2),
        MarkStarted(token=6),
        end(7),
        save(5),
        lease(10, plan_id=1, task_id=6),
    ]
    found = of(*rows)
    wanted = ["task_states", "attempts ended", "attempts leased", "attempts started", "leases", "events"]
    assert list(found) == wanted
    assert found["attempts leased"][0] == "{8,10}"


def test_the_function_and_its_call_have_an_argument_for_each_column() -> None:
    count = 4 + sum(len(table.types) for table in TABLES)
    assert f"${count}" in COMMIT.function
    assert f"${count + 1}" not in COMMIT.function
    assert COMMIT.sql.count(b"%s") == count


def test_nothing_to_write_is_no_column() -> None:
    assert of() == {}


def test_the_start_of_an_attempt_that_ends_in_the_same_batch_is_left_to_its_end() -> None:
    assert list(of(MarkStarted(token=7), end(7))) == ["attempts ended"]
    assert of(MarkStarted(token=6), MarkStarted(token=7), end(7))["attempts started"] == ["{6}"]


def test_several_writes_of_a_task_are_one_with_the_first_guard_and_the_last_values() -> None:
    columns = of(
        save(5, expected=2, version=3),
        save(4),
        save(5, expected=3, version=4, state=TaskState.RUNNING),
    )["task_states"]
    assert [columns[n] for n in (0, 1, 7, 8)] == ["{5,4}", '{"running","ready"}', "{2,0}", "{4,1}"]
