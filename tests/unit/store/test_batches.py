"""What a batch says to the tables; what it does to them is shown by the contract tests."""

from __future__ import annotations

from orchestrator.core.commands import AskCancel, RowCommand, TakeResult
from orchestrator.core.words import TaskState
from orchestrator.store.batches import COMMIT, TABLES, rows_by_kind
from orchestrator.store.event_batches import EventBatch, events_in
from tests.support.rows import end, lease, record, save


def of(*rows: RowCommand) -> dict[str, list[str]]:
    """Return the columns of every table that a batch writes."""
    by_kind = rows_by_kind(rows)
    arguments = COMMIT.arguments(by_kind, batch=9, epoch=3, cluster_id="c1", channel="events", events=1)
    assert arguments[:5] == ["9", "3", "c1", "events", "1"]
    columns = iter(arguments[5:])
    found = {table.what: [next(columns) for _ in table.types] for table in TABLES}
    assert next(columns, None) is None
    return {what: [c for c in given if c is not None] for what, given in found.items() if any(given)}


def test_each_table_gets_its_rows_as_columns_in_the_order_of_the_transaction() -> None:
    rows = [
        record("attempt.leased", plan_id=1),
        AskCancel(token=9, reason="stop"),
        lease(8, plan_id=1, task_id=5, number=2),
        TakeResult(token=6),
        end(7),
        save(5),
        lease(10, plan_id=1, task_id=6),
    ]
    found = of(*rows)
    wanted = [
        "task_states",
        "attempts with a result",
        "attempts ended",
        "attempts leased",
        "leases",
        "events",
    ]
    assert list(found) == wanted
    assert found["attempts leased"][0] == "{8,10}"


def test_the_function_and_its_call_have_an_argument_for_each_column() -> None:
    count = 5 + sum(len(table.types) for table in TABLES)
    assert f"${count}" in COMMIT.function
    assert f"${count + 1}" not in COMMIT.function
    assert COMMIT.sql.count(b"$") == count


def test_nothing_to_write_is_no_column() -> None:
    assert of() == {}


def test_events_are_a_row_for_each_plan_with_their_places_in_the_batch() -> None:
    told = [
        record(kind, plan_id=plan_id, n=n) for n, (kind, plan_id) in enumerate([("a", 1), ("b", 2), ("c", 1)])
    ]
    first, last, _, plans, types, *_, payloads = of(*told)["events"]
    assert (first, last, plans) == ("{1,3}", "{2,3}", "{1,2}")
    assert types == '{"{a,c}","{b}"}'
    assert payloads == r'{"[{\"n\":0},{\"n\":2}]","[{\"n\":1}]"}'
    assert events_in(rows_by_kind(told)[EventBatch]) == 3


def test_several_writes_of_a_task_are_one_with_the_first_guard_and_the_last_values() -> None:
    columns = of(
        save(5, expected=2, version=3),
        save(4),
        save(5, expected=3, version=4, state=TaskState.RUNNING),
    )["task_states"]
    assert [columns[n] for n in (0, 1, 7, 8)] == ["{5,4}", '{"running","ready"}', "{2,0}", "{4,1}"]


def test_of_several_wishes_to_end_an_attempt_the_last_one_is_written() -> None:
    found = of(*(AskCancel(token=token, reason=reason) for token, reason in ((9, "a"), (8, "b"), (9, "c"))))
    assert found["leases"] == ["{9,8}", '{"c","b"}']
