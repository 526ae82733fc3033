"""Which statements a batch becomes; what they do to the tables is shown by the contract tests."""

from __future__ import annotations

from orchestrator.core.commands import AskCancel, MarkStarted, RowCommand
from orchestrator.core.words import TaskState
from orchestrator.store.batches import Statement, statements
from tests.support.rows import end, lease, record, save

CONSTANTS = {"epoch": 3, "cluster_id": "c1", "channel": "events"}


def of(*rows: RowCommand) -> dict[str, Statement]:
    return {statement.what: statement for statement in statements(rows, CONSTANTS)}


def test_one_statement_a_table_in_the_order_of_the_transaction() -> None:
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
    assert [statement.hits for statement in found.values()] == [1, 1, 2, None, None, None]
    assert found["attempts leased"].values["0"] == "{8,10}"
    assert found["events"].values["epoch"] == 3


def test_nothing_to_write_is_no_statement() -> None:
    assert of() == {}


def test_the_start_of_an_attempt_that_ends_in_the_same_batch_is_left_to_its_end() -> None:
    assert list(of(MarkStarted(token=7), end(7))) == ["attempts ended"]
    assert of(MarkStarted(token=6), MarkStarted(token=7), end(7))["attempts started"].values["0"] == "{6}"


def test_several_writes_of_a_task_are_one_with_the_first_guard_and_the_last_values() -> None:
    found = of(
        save(5, expected=2, version=3),
        save(4),
        save(5, expected=3, version=4, state=TaskState.RUNNING),
    )["task_states"]
    assert found.hits == 2
    columns = [found.values[name] for name in ("0", "1", "7", "8")]
    assert columns == ["{5,4}", '{"running","ready"}', "{2,0}", "{4,1}"]
