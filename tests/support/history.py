"""The history of a run, read after it and checked: what every fault test ends with.

    history = check_history(urls.service, effects=effects, acknowledged=acknowledged)
    print(history.summary)

It reads the tables in one snapshot, takes the log of side effects that the sessions wrote, and holds both
against every check of `history_checks`. Beside the rows it needs no part of the product, and no Ray.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg

from tests.support.history_checks import violations
from tests.support.history_rows import (
    Acknowledged,
    AttemptRow,
    EdgeRow,
    Effect,
    EventRow,
    History,
    PlanRow,
    TaskRow,
)

__all__ = ["Acknowledged", "EffectLog", "History", "check_history", "read_history"]

#: Violations that are told; more would bury the first.
TOLD_MAX = 20

_PLANS_SQL = "SELECT id, state, tasks_total FROM plans ORDER BY id"

_TASKS_SQL = """
SELECT t.id, t.plan_id, t.key, coalesce(t.parent_id, 0), t.kind = 'container', s.state, s.reason,
       %(script)s <> '' AND strpos(t.run::text, %(script)s) > 0
FROM tasks AS t JOIN task_states AS s ON s.task_id = t.id ORDER BY t.id
"""

_EDGES_SQL = "SELECT task_id, on_task_id FROM task_dependencies WHERE kind = 'blocks'"

_ATTEMPTS_SQL = """
SELECT token, plan_id, task_id, kind, number, epoch, state, end_reason, coalesce(failure_class, ''),
       leased_at, ended_at
FROM attempts ORDER BY token
"""

_STARTS_SQL = "SELECT token FROM attempts WHERE started_at IS NOT NULL AND incarnation <> ''"

_RESULTS_SQL = "SELECT token, state FROM attempts WHERE end_reason = 'reported'"

_EVENTS_SQL = """
SELECT seq, coalesce(plan_id, 0), coalesce(task_id, 0), coalesce(token, 0), epoch, type,
       coalesce(payload ->> 'state', '')
FROM events ORDER BY seq
"""

#: Appends a line `start|end token task attempt pid` with one write, flushed to the disk, around its argument.
_SCRIPT = """\
say() {
    echo "$1 ${ORCHESTRATOR_TOKEN%%@*} $ORCHESTRATOR_TASK $ORCHESTRATOR_ATTEMPT $$" |
        dd of=LOG oflag=append conv=notrunc,fsync status=none
}
say start
sh -c "$1"
code=$?
say end
exit $code
"""


class EffectLog:
    """What sessions did in the world: a file to which the `run:` lines of a plan append.

    Args:
        folder: of the log and its script; the sessions must be able to write to it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "effects.log"
        self.script = folder / "effects.sh"
        self.path.touch()
        self.path.chmod(0o666)
        self.script.write_text(_SCRIPT.replace("LOG", shlex.quote(str(self.path))))

    def line(self, work: str = "true") -> str:
        """Return a `run:` line that does `work` (a shell line) between its two entries in the log."""
        return f"sh {shlex.quote(str(self.script))} {shlex.quote(work)}"

    def read(self) -> tuple[Effect, ...]:
        """Return the entries in the order in which they reached the file."""
        found = []
        for entry in self.path.read_text().splitlines():
            edge, token, key, attempt, pid = entry.split(" ")
            found.append(Effect(edge, int(token), key, int(attempt), int(pid)))
        return tuple(found)


def check_history(
    url: str, *, effects: EffectLog | None = None, acknowledged: Iterable[Acknowledged] = ()
) -> History:
    """Check the whole history of a database; return it.

    Args:
        url: libpq URL of the service role.
        effects: log of the plans' sessions, if they kept one.
        acknowledged: what clients were told had been done.

    Raises:
        AssertionError: naming the checks that found something, and what.
    """
    history = read_history(url, effects=effects, acknowledged=acknowledged)
    found = list(violations(history))
    told = "\n".join(f"  {one}" for one in found[:TOLD_MAX])
    assert not found, f"{len(found)} violations in the history of {history.summary}:\n{told}"
    return history


def read_history(
    url: str, *, effects: EffectLog | None = None, acknowledged: Iterable[Acknowledged] = ()
) -> History:
    """Read everything that the checks look at, in one snapshot."""
    script = {"script": str(effects.script) if effects else ""}
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ

        def rows(statement: str) -> list[tuple[Any, ...]]:
            return connection.execute(statement.encode(), script).fetchall()

        return History(
            plans={row.plan_id: row for row in map(PlanRow._make, rows(_PLANS_SQL))},
            tasks={row.task_id: row for row in map(TaskRow._make, rows(_TASKS_SQL))},
            edges=tuple(map(EdgeRow._make, rows(_EDGES_SQL))),
            attempts={row.token: row for row in map(AttemptRow._make, rows(_ATTEMPTS_SQL))},
            events=tuple(map(EventRow._make, rows(_EVENTS_SQL))),
            starts=frozenset(row[0] for row in rows(_STARTS_SQL)),
            results={row[0]: row[1] for row in rows(_RESULTS_SQL)},
            leases=frozenset(row[0] for row in rows("SELECT token FROM leases")),
            effects=effects.read() if effects else (),
            acknowledged=tuple(acknowledged),
        )
