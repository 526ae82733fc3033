"""Rapid edits of a plan from both sides, sync between them as a process: no mark and no word is lost.

Some tasks are marked by the author alone, some are moved by requests alone, and some by both.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.client import Client
from orchestrator.client.transport import Endpoint
from orchestrator.core.words import TaskState
from orchestrator.errors import Conflict
from orchestrator.plan.marks import agrees
from orchestrator.plan.model import Mark
from orchestrator.plan.read import read_plan
from orchestrator.plan.standing import Standing
from orchestrator.sync.files import replace_if
from orchestrator.sync.registry import SyncState, read_state, write_plans
from orchestrator.views import SubmitRequest
from tests.support.extent import IS_FULL, seed
from tests.support.own_server import own_server
from tests.support.own_stack import write_own_stack
from tests.support.service_process import AGENT_TYPE, TOKEN, service_process

EDITS = 1_000
LASTS_S = 3_600.0 if IS_FULL else 20.0
PAUSE_MAX_S = 0.1
WAIT_S = 120.0

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(LASTS_S + 900)]

_BOX = re.compile(r"\[([ xX!])\]")

#: A task with its fields, or some words: lines that stay together.
Block = list[str]


@dataclass
class Author:
    """Edits a file, and remembers each word that he wrote; `own` are the last marks of tasks that are his."""

    draw: random.Random
    path: Path
    words: list[Block] = field(default_factory=list)
    own: dict[str, Mark] = field(default_factory=dict)
    made: int = 0

    def write_first(self, tasks: int) -> str:
        """Write the plan as it begins."""
        self.words = [["# Rapid"], [""], *(self._new_task() for _ in range(tasks))]
        text = _text(self.words)
        self.path.write_bytes(text.encode())
        return text

    def edit(self) -> str:
        """Do one thing to the file as it is then, and return what it was."""
        draw = self.draw.choices(
            [self._insert_task, self._insert_words, self._move, self._change_title, self._mark],
            weights=[1, 1, 2, 2, 8],
        )[0]
        state = self.draw.getstate()
        while True:
            self.draw.setstate(state)  # the same again if sync has written meanwhile
            seen = self.path.read_bytes()
            found = self._as_blocks(seen.decode())
            words, own = [list(block) for block in self.words], dict(self.own)
            draw(found, words, own)
            half = self.path.with_name("half")
            half.write_bytes(_text(found).encode())
            if replace_if(self.path, half, seen=seen):
                self.words, self.own = words, own
                return draw.__name__

    def _as_blocks(self, text: str) -> list[Block]:
        """Return the file in blocks; its words must be ours."""
        lines, found = text.split("\r\n"), []
        for block in self.words:
            found.append(lines[: len(block)])
            lines = lines[len(block) :]
        assert ([_blank(block) for block in found], lines) == ([_blank(block) for block in self.words], [])
        return found

    def check(self) -> dict[str, Mark]:
        """See that the file holds every word, and return its marks."""
        text = self.path.read_bytes().decode()
        self._as_blocks(text)
        return {task.key: task.mark for task in read_plan(text).tasks}

    def _new_task(self) -> Block:
        self.made += 1
        blank = self.draw.choice(["", "  ", "\t"])
        return [
            f"- [ ] **T-{self.made}** Do number {self.made}{blank}",
            f"  - agent: {AGENT_TYPE}",
            "  - manual: by hand",
        ]

    def _insert_task(self, found: list[Block], words: list[Block], own: dict[str, Mark]) -> None:
        del own
        block, place = self._new_task(), self.draw.randrange(2, len(words) + 1)
        found.insert(place, block)
        words.insert(place, block)

    def _insert_words(self, found: list[Block], words: list[Block], own: dict[str, Mark]) -> None:
        del own
        block = self.draw.choice([[""], ["", "Some words.", ""], ["", "> Quoted\t", ""]])
        place = self.draw.randrange(2, len(words) + 1)
        found.insert(place, block)
        words.insert(place, block)

    def _move(self, found: list[Block], words: list[Block], own: dict[str, Mark]) -> None:
        del own
        old, new = self._task(words), self.draw.randrange(2, len(words))
        for blocks in (found, words):
            blocks.insert(new, blocks.pop(old))

    def _change_title(self, found: list[Block], words: list[Block], own: dict[str, Mark]) -> None:
        del own
        number = self._task(words)
        for blocks in (found, words):
            blocks[number] = [blocks[number][0].rstrip() + " really", *blocks[number][1:]]

    def _mark(self, found: list[Block], words: list[Block], own: dict[str, Mark]) -> None:
        number = self._task(words)
        while _owner(key := _key(words[number])) == "server":
            number = self._task(words)
        sign = self.draw.choice([" ", "x", "X"] if _owner(key) == "author" else [" ", "x", "!"])
        found[number] = [_BOX.sub(f"[{sign}]", found[number][0], count=1), *found[number][1:]]
        if _owner(key) == "author":
            own[key] = Mark.OPEN if sign == " " else Mark.DONE

    def _task(self, blocks: list[Block]) -> int:
        return self.draw.choice([number for number, block in enumerate(blocks) if _key(block)])


@dataclass
class Operator:
    """Moves tasks by requests; `own` are the tasks that are the server's, and whether they are done."""

    draw: random.Random
    client: Client
    ids: dict[str, int]
    own: dict[str, bool] = field(default_factory=dict)
    refused: int = 0

    def edit(self) -> str:
        """Finish a task, or open it again."""
        key = self.draw.choice([key for key in self.ids if _owner(key) != "author"])
        kind = self.draw.choice(["finish_task", "reopen_task"])
        if _owner(key) == "server":
            is_done = self.own[key] = not self.own.get(key, False)
            kind = "finish_task" if is_done else "reopen_task"
        try:
            self.client.request(kind, task_id=self.ids[key])
        except Conflict:
            assert _owner(key) == "both"  # the author was there first
            self.refused += 1
        return kind


def test_rapid_edits_from_both_sides_lose_nothing(tmp_path: Path) -> None:
    number = seed()
    draw = random.Random(number)
    author = Author(draw, tmp_path / "plan.md")
    with own_server() as server, service_process(server) as service:
        endpoint = Endpoint(url=service.url, token=TOKEN, patience_s=60.0)
        with Client(endpoint) as client:
            text = author.write_first(30)
            ref = str(client.submit(SubmitRequest(text=text, name="rapid")).plan_id)
            ids = {task.key: task.id for task in client.source(ref).tasks}
            operator = Operator(draw, client, ids)
            with synced(tmp_path / "home", service.url, {ref: author.path}) as process:
                made = edit_rapidly(draw, author, operator)
                told = settle(author, client, ref, tmp_path / "home")
                assert process.poll() is None
    marks = author.check()
    print(
        f"seed {number}: {made.total()} edits, {dict(made)}, "
        f"{operator.refused} refused, {len(told)} left to people"
    )
    assert {_owner(key) for key in told} <= {"both"}
    assert {key: marks[key] for key in author.own} == author.own
    assert {key: marks[key] is Mark.DONE for key in operator.own} == operator.own
    if IS_FULL:
        assert made.total() == EDITS


def edit_rapidly(draw: random.Random, author: Author, operator: Operator) -> Counter[str]:
    """Let both edit as they come; return how often each did what."""
    made: Counter[str] = Counter()
    ends_s = time.monotonic() + LASTS_S
    while made.total() < EDITS and time.monotonic() < ends_s:
        edit = draw.choices([author.edit, operator.edit], weights=[3, 2])[0]
        made[edit().strip("_")] += 1
        time.sleep(draw.random() * PAUSE_MAX_S)  # rounds of sync fall between any two
    return made


def settle(author: Author, client: Client, ref: str, home: Path) -> set[str]:
    """Wait until file and database agree on all that no person is told of; return what they are told of."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        told = _told(read_state(home), ref)
        stored = {task.key: task for task in client.source(ref).tasks}
        marks = author.check()
        apart = {
            key
            for key, mark in marks.items()
            if key not in stored
            or not agrees(mark, Standing(TaskState(stored[key].state), stored[key].reason))
        }
        if apart == told:
            return told
        assert time.monotonic() < deadline_s, f"apart: {apart}, told: {told}"
        time.sleep(0.2)


@contextmanager
def synced(home: Path, url: str, plans: dict[str, Path]) -> Iterator[subprocess.Popen[bytes]]:
    """The process of sync, in a home in which a stack runs; a signal ends it."""
    write_own_stack(home, url=url, token=TOKEN)
    write_plans(home, plans)
    with (home / "log").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.sync", str(home)], stdout=out, stderr=out
        )
    try:
        yield process
        process.terminate()
        assert process.wait(WAIT_S) == 0, (home / "log").read_text()[-4000:]
        assert read_state(home) is None
    finally:
        process.kill()
        process.wait()


def _told(state: SyncState | None, ref: str) -> set[str]:
    """Return the tasks whose mark both have changed, or that cannot follow theirs: done, and not to be."""
    plan = state.plans[ref] if state else {}
    lines = [*plan.get("conflicts", ()), *plan.get("refused", ())]
    return {match[0] for line in lines if (match := re.search(r"\bT-\d+\b", line))}


def _owner(key: str) -> str:
    """Tell who marks a task."""
    return ("author", "server", "both")[int(key.removeprefix("T-")) % 3] if key else ""


def _key(block: Block) -> str:
    match = re.search(r"\*\*(T-\d+)\*\*", block[0])
    return match[1] if match else ""


def _text(blocks: list[Block]) -> str:
    return "\r\n".join(line for block in blocks for line in block)


def _blank(block: Block) -> Block:
    return [_BOX.sub("[ ]", line, count=1) for line in block]
