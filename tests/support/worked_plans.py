"""Plans with a past: outcomes, notes, decisions and failures; and what each task needs to be told of it.

`needed_facts` asks the tables by statements of its own, so that context packs can be held against it.
"""

from __future__ import annotations

import math
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.runtime.service import Service
from orchestrator.sessions.tokens import estimate_tokens
from orchestrator.store.urls import DatabaseUrls
from orchestrator.views import SubmitRequest
from tests.support.rows import Rows

REPOSITORY = Path(__file__).parents[2]
CORPUS = Path(os.environ.get("ORCHESTRATOR_CORPUS", REPOSITORY.parent / "shared" / "corpus"))

SEED = 5
#: A task depends on up to three of so many before it.
REACH = 30
SECTION = 20
DECISIONS = 8

_PROSE = (
    "the parser reads each record once and keeps what it has seen in a table by key so that later steps find"
    " it without asking again while errors name the line and the reason and nothing is written before all of"
    " it has been checked against the schema that came with the request or the default one if there was none"
)

_OUTCOMES = """
INSERT INTO attempts (token, plan_id, task_id, number, kind, agent_type, backend, executor, cluster_id,
                      epoch, state, summary, report, ended_at)
SELECT {base} + row_number() OVER (ORDER BY t.id), t.plan_id, t.id, 1, 'work', 'poet', 'anthropic',
    'x', 'c', 1, 'succeeded', 'done', jsonb_build_object(
        'summary', 'Part ' || t.id || ' keeps its rows sorted by key and refuses what has none. Its limit of '
            || t.id || ' rows per call is checked first, and the caller is told which row was too many.',
        'files', jsonb_build_array('src/part_' || t.id || '.py', 'tests/test_part_' || t.id || '.py'),
        'follow_ups', jsonb_build_array('measure part ' || t.id)), now()
FROM tasks AS t WHERE t.plan_id = %s AND t.kind = 'leaf'
    AND t.id = ANY(ARRAY(SELECT e.on_task_id FROM task_dependencies AS e WHERE e.plan_id = %s))
"""

_CLOSE = """
UPDATE task_states SET state = 'done', reason = '' FROM attempts AS a
WHERE a.task_id = task_states.task_id AND task_states.plan_id = %s AND a.state = 'succeeded'
"""

_FAILURES = """
INSERT INTO attempts (token, plan_id, task_id, number, kind, agent_type, backend, executor, cluster_id,
                      epoch, state, failure_class, summary, detail, ended_at)
SELECT {base} + row_number() OVER (ORDER BY t.id), t.plan_id, t.id, 1, 'gate', 'poet', 'command', 'x', 'c', 1,
    'failed', 'gate', 'check ' || t.id || ' exited with 1',
    repeat('collected 12 items, all of which passed' || E'\\n', 60) || 'AssertionError: row ' || t.id, now()
FROM tasks AS t WHERE t.plan_id = %s AND t.kind = 'leaf' AND t.ordinal %% 7 = 0
"""

_NOTES = """
INSERT INTO notes (plan_id, task_id, kind, text)
SELECT t.plan_id, t.id, 'note', 'Part ' || t.id || ' is called with the lock held, or rows come twice.'
FROM tasks AS t WHERE t.plan_id = %s AND t.ordinal %% 5 = 0
"""

_DECISIONS = """
INSERT INTO notes (plan_id, kind, text)
SELECT %s, CASE WHEN n %% 4 = 0 THEN 'note' ELSE 'decision' END,
    'Rule ' || n || ': times are kept in UTC, and shown in the zone of whoever reads them.'
FROM generate_series(1, %s) AS n
"""

_NEEDED = (
    "SELECT t.id, jsonb_array_elements_text(t.acceptance) FROM tasks AS t WHERE t.id = ANY(%s)",
    "SELECT t.id, jsonb_array_elements_text(t.verify) FROM tasks AS t WHERE t.id = ANY(%s)",
    "SELECT t.id, jsonb_array_elements_text(t.touches) FROM tasks AS t WHERE t.id = ANY(%s)",
    "SELECT t.id, t.title FROM tasks AS t WHERE t.id = ANY(%s)",
    "SELECT t.id, t.body FROM tasks AS t WHERE t.id = ANY(%s)",
    "SELECT e.task_id, a.report->>'summary' FROM task_dependencies AS e"
    " JOIN attempts AS a ON a.task_id = e.on_task_id AND a.state = 'succeeded'"
    " WHERE e.task_id = ANY(%s) AND e.kind IN ('blocks', 'informs')",
    "SELECT e.task_id, n.text FROM task_dependencies AS e JOIN notes AS n ON n.task_id = e.on_task_id"
    " WHERE e.task_id = ANY(%s) AND e.kind IN ('blocks', 'informs')",
    "SELECT n.task_id, n.text FROM notes AS n WHERE n.task_id = ANY(%s)",
    "SELECT t.id, n.text FROM tasks AS t JOIN notes AS n ON n.plan_id = t.plan_id"
    " WHERE t.id = ANY(%s) AND (n.task_id IS NULL OR n.kind = 'decision')",
    "SELECT a.task_id, a.summary FROM attempts AS a WHERE a.task_id = ANY(%s) AND a.state = 'failed'",
    "SELECT a.task_id, right(a.detail, 25) FROM attempts AS a"
    " WHERE a.task_id = ANY(%s) AND a.state = 'failed'",
)


def plan_text(tasks: int) -> str:
    """Return a plan as people write them: sections with a purpose, tasks with sentences and criteria."""
    return "".join(_lines(tasks))


def _lines(tasks: int) -> Iterator[str]:
    dice, known = random.Random(SEED), _PROSE.split()

    def prose(words: int) -> str:
        start = dice.randrange(len(known))
        return " ".join(known[(start + n) % len(known)] for n in range(words)).capitalize() + "."

    yield f"# Plan of {tasks} tasks\n"
    for n in range(tasks):
        section, place = divmod(n, SECTION)
        if place == 0:
            yield f"\n## Track T{section}: {prose(4)}\n\n{prose(60)}\n\n"
        yield f"- [ ] **T{section}.{place + 1}** {prose(6)[:-1]} {n}\n  {prose(40)}\n  {prose(25)}\n"
        yield f"  - accept: {prose(10)[:-1]} {n}\n  - accept: {prose(8)[:-1]} of {n}\n"
        yield f"  - touches: src/part_{n}.py\n  - verify: make check-{n}\n"
        near = range(max(0, n - REACH), n)
        chosen = sorted(dice.sample(near, min(len(near), dice.randrange(4))))
        if chosen:
            keys = (f"T{on // SECTION}.{on % SECTION + 1}" for on in chosen)
            yield f"  - depends: {', '.join(keys)}\n"


def work_through(urls: DatabaseUrls, plan_id: int) -> None:
    """Let everything that others depend on be done, some checks have failed, and notes have been left."""
    rows = Rows(urls)
    (base,) = rows.column("SELECT coalesce(max(token), 0) FROM attempts")
    rows.all(_OUTCOMES.format(base=base), plan_id, plan_id)
    rows.all(_CLOSE, plan_id)
    (base,) = rows.column("SELECT max(token) FROM attempts")
    rows.all(_FAILURES.format(base=base), plan_id)
    rows.all(_NOTES, plan_id)
    rows.all(_DECISIONS, plan_id, DECISIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packs:
    """The context packs of tasks from all over a plan.

    Attributes:
        plan_tokens: of the plan's text, estimated.
        tokens: of each pack, ascending.
        untold: facts that a pack lacks and its task needs.
        facts: how many were looked for.
    """

    plan_tokens: int
    tokens: tuple[int, ...]
    untold: tuple[str, ...]
    facts: int

    def at(self, share: float) -> int:
        """Return the size that this share of the packs does not exceed."""
        return self.tokens[math.ceil(share * len(self.tokens)) - 1]

    @property
    def saved(self) -> float:
        """The share of the plan's tokens that the mean pack does not take."""
        return 1 - sum(self.tokens) / len(self.tokens) / self.plan_tokens


async def packs_of(service: Service, urls: DatabaseUrls, text: str, *, name: str, count: int) -> Packs:
    """Submit a plan, give it a past and make the packs of so many of its tasks."""
    plan_id = (await service.submit(SubmitRequest(text=text, name=name))).plan_id
    work_through(urls, plan_id)
    ids = leaves(urls, plan_id, count=count)
    needed = needed_facts(urls, ids)
    packs = {task_id: await service.orient(str(task_id)) for task_id in ids}
    return Packs(
        plan_tokens=estimate_tokens(text),
        tokens=tuple(sorted(pack.tokens for pack in packs.values())),
        untold=tuple(
            f"task {task_id}: {fact}"
            for task_id, facts in needed.items()
            for fact in facts
            if not _is_told(fact, packs[task_id].text)
        ),
        facts=sum(map(len, needed.values())),
    )


def leaves(urls: DatabaseUrls, plan_id: int, *, count: int) -> list[int]:
    """Return the ids of so many leaves from all over the plan."""
    query = "SELECT id FROM tasks WHERE plan_id = %s AND kind = 'leaf' ORDER BY ordinal"
    found = Rows(urls).column(query, plan_id)
    return random.Random(SEED).sample(found, min(count, len(found)))


def needed_facts(urls: DatabaseUrls, task_ids: Iterable[int]) -> dict[int, list[str]]:
    """Return what each of the tasks needs to be told, by id."""
    rows, needed = Rows(urls), defaultdict[int, list[str]](list)
    for statement in _NEEDED:
        for row in rows.all(statement, list(task_ids)):
            task_id, fact = row.values()
            if fact and fact.strip():
                needed[task_id].append(fact)
    return needed


def _is_told(fact: str, text: str) -> bool:
    """Whether a text says a fact, however it is broken into lines."""
    return " ".join(fact.split()) in " ".join(text.split())
