"""Rapid edits from both sides, in any order, over a connection that is slow to follow: nothing is lost.

The author edits lines and marks, the database moves tasks, and between them run rounds of sync: others may
cut in between their look and their write. The author's lines are kept in a second text too, and compared.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from orchestrator.core.words import BY_FILE, TaskState
from orchestrator.plan.marks import agrees, mark_of
from orchestrator.plan.model import Mark
from orchestrator.plan.read import read_plan
from orchestrator.plan.standing import Standing
from orchestrator.sync.three_way import Merge, Sent, merge

EDITS = 1_000
_BOX = re.compile(r"\[([ xX~!-])\]")
_SIGNS = {" ": Mark.OPEN, "x": Mark.DONE, "X": Mark.DONE, "!": Mark.BLOCKED, "-": Mark.CANCELLED}
_STATE_OF = {
    Mark.DONE: Standing(TaskState.DONE, BY_FILE),
    Mark.OPEN: Standing(TaskState.READY),
    Mark.BLOCKED: Standing(TaskState.HELD, "blocked in the plan"),
    Mark.CANCELLED: Standing(TaskState.CANCELLED, "cancelled in the plan"),
}


@dataclass
class World:
    """A file, a database, and sync between them. `words`: the lines as the author wrote them."""

    draw: random.Random
    end: str
    lines: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    base: str = ""
    database: dict[str, Standing] = field(default_factory=dict)
    pending: list[Sent] = field(default_factory=list)
    made: int = 0
    rounds: int = 0
    conflicts: int = 0

    def __post_init__(self) -> None:
        self.lines = ["# Plan", ""]
        self.words = [*self.lines]
        for _ in range(12):
            self.insert_task(2)
        self.base = self.text

    @property
    def text(self) -> str:
        """The file."""
        return self.end.join(self.lines)

    def tasks(self) -> Iterator[tuple[int, str]]:
        """Lines with a task, and its key."""
        for number, line in enumerate(self.lines):
            if match := re.search(r"\*\*(T-\d+)\*\*", line):
                yield number, match[1]

    # The author.

    def insert_task(self, at: int | None = None) -> None:
        """Write a new task somewhere."""
        self.made += 1
        key = f"T-{self.made}"
        blank = self.draw.choice(["", "  ", "\t"])
        line = f"- [ ] **{key}** Do number {self.made}{blank}"
        place = self.draw.randrange(2, len(self.lines) + 1) if at is None else at
        self.lines.insert(place, line)
        self.words.insert(place, line)
        self.database[key] = Standing(TaskState.READY)

    def insert_words(self) -> None:
        """Write a line that is no task."""
        place = self.draw.randrange(2, len(self.lines) + 1)
        line = self.draw.choice(["", "Some words.", "## A heading", "\tindented"])
        self.lines.insert(place, line)
        self.words.insert(place, line)

    def move_line(self) -> None:
        """Move a task elsewhere."""
        old, _ = self.draw.choice(list(self.tasks()))
        new = self.draw.randrange(2, len(self.lines))
        for lines in (self.lines, self.words):
            lines.insert(new, lines.pop(old))

    def change_title(self) -> None:
        """Say it in other words."""
        number, _ = self.draw.choice(list(self.tasks()))
        more = f" really{self.draw.choice(['', ' ', chr(9)])}"
        for lines in (self.lines, self.words):
            lines[number] = lines[number].rstrip() + more

    def set_mark(self) -> None:
        """Change a mark by hand."""
        number, _ = self.draw.choice(list(self.tasks()))
        sign = self.draw.choice(" xX!-")
        self.lines[number] = _BOX.sub(f"[{sign}]", self.lines[number], count=1)

    # The database.

    def move_task(self) -> None:
        """A task ends, or is opened again."""
        key = self.draw.choice([key for _, key in self.tasks()])
        state = self.draw.choice([TaskState.READY, TaskState.RUNNING, TaskState.DONE])
        self.database[key] = Standing(state)

    def follow(self) -> None:
        """Carry out what was sent, or forget it: it is sent again."""
        for sent in self.pending:
            if self.draw.random() < 0.7:
                self.database[sent.key] = _STATE_OF[sent.mark]
        self.pending.clear()

    # Sync.

    def look(self) -> tuple[str, Merge]:
        """Read both sides and decide."""
        text = self.text
        found = merge(read_plan(self.base).tasks, read_plan(text).tasks, {"": text}, dict(self.database))
        return text, found

    def write(self, seen: str, found: Merge) -> None:
        """Write the file and the base, unless the file has changed since it was seen."""
        self.rounds += 1
        self.conflicts += len(found.conflicts)
        self.pending += found.sends
        if self.text == seen:
            self.lines = found.files[""].split(self.end)
            self.base = found.base[""]

    def edit(self) -> None:
        """Somebody does something."""
        author = [self.insert_task, self.insert_words, self.move_line, self.change_title, self.set_mark]
        self.draw.choices([*author, self.move_task, self.follow], weights=[1, 1, 2, 2, 6, 8, 4])[0]()


def check_words(world: World) -> None:
    """No edit of the author is lost, and nothing but marks is written."""
    blanked = [_BOX.sub("[ ]", line, count=1) for line in world.lines]
    assert blanked == [_BOX.sub("[ ]", line, count=1) for line in world.words]


def agree(world: World) -> list[str]:
    """Tasks whose file and database say different things."""
    marks = {task.key: task.mark for task in read_plan(world.text).tasks}
    return [key for _, key in world.tasks() if not agrees(marks[key], world.database[key])]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_thousand_rapid_edits_lose_nothing(seed: int, end: str) -> None:
    world = World(draw=random.Random(seed), end=end)
    for _ in range(EDITS):
        world.edit()
        if world.draw.random() < 0.2:
            seen, found = world.look()
            if world.draw.random() < 0.3:
                world.edit()  # between the look and the write
            world.write(seen, found)
            check_words(world)
    check_words(world)
    in_conflict = settle(world)
    assert agree(world) == sorted(in_conflict, key=agree(world).index)
    print(f"seed {seed}: {EDITS:,} edits, {world.rounds} rounds, {world.conflicts} conflicts told")


def settle(world: World) -> list[str]:
    """Let both sides rest and sync go on; return what is still in conflict."""
    for _ in range(100):
        seen, found = world.look()
        if not found.sends and found.files[""] == seen and not world.pending:
            break
        world.write(seen, found)
        world.follow()
    world.write(seen, found)
    assert found.sends == ()
    return [conflict.key for conflict in found.conflicts]


@pytest.mark.parametrize("seed", range(4))
def test_the_last_word_counts_unless_both_have_spoken(seed: int) -> None:
    """20 rounds in which each task is touched by one side at most: that side wins."""
    world = World(draw=random.Random(seed), end="\n")
    for _ in range(20):
        keys = [key for _, key in world.tasks()]
        by_author = set(world.draw.sample(keys, 4))
        expected: dict[str, Mark | None] = {}
        for number, key in list(world.tasks()):
            if key in by_author:
                sign = world.draw.choice(" x!")
                world.lines[number] = _BOX.sub(f"[{sign}]", world.lines[number], count=1)
                expected[key] = _SIGNS[sign]
            elif world.draw.random() < 0.5:
                world.database[key] = Standing(world.draw.choice([TaskState.READY, TaskState.DONE]))
                expected[key] = mark_of(world.database[key])
        assert settle(world) == []
        marks = {task.key: task.mark for task in read_plan(world.text).tasks}
        assert {key: marks[key] for key in expected} == expected
        assert agree(world) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_conflict_is_told_only_where_both_changed_the_same_mark(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(25):
        world = World(draw=draw, end="\n")
        by_author, by_database = {}, {}
        for number, key in list(world.tasks()):
            if draw.random() < 0.5:
                sign = draw.choice("x!-")
                world.lines[number] = _BOX.sub(f"[{sign}]", world.lines[number], count=1)
                by_author[key] = _SIGNS[sign]
            if draw.random() < 0.5:
                world.database[key] = Standing(TaskState.DONE)
                by_database[key] = Mark.DONE
        _, found = world.look()
        both = [key for key, mark in by_author.items() if by_database.get(key, mark) is not mark]
        assert sorted(conflict.key for conflict in found.conflicts) == sorted(both)
        assert sorted(sent.key for sent in found.sends) == sorted(by_author.keys() - by_database.keys())
