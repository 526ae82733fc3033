"""The context pack: what is told first, what is left out first, and what never."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestrator.sessions.context import ContextPack, make_pack
from orchestrator.sessions.tokens import estimate_tokens
from orchestrator.surroundings import Ancestor, FailedAttempt, Surroundings, TaskOutcome
from orchestrator.views import NoteKind, NoteView
from tests.support.sessions import assignment

TASK = assignment(body="Say it.", acceptance=("It is short",), verify=("make test",))
GOAL = Ancestor(key="A", title="Track A", body="Whatever is said\n# is polite")
FAILED = FailedAttempt(number=2, kind="gate", failure_class="gate", summary="exit code 1", detail="E: rude")


def outcome(n: int, **values: object) -> TaskOutcome:
    """A task that is done."""
    done = TaskOutcome(key=f"B.{n}", title=f"Part {n}", state="done", summary=f"came to {n}")
    return replace(done, **values)  # type: ignore[arg-type]


def note(n: int, *, kind: NoteKind = NoteKind.NOTE, text: str = "") -> NoteView:
    """What another session left."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return NoteView(id=n, kind=kind, task_key="B.1", author="poet", text=text or f"{kind} {n}", at=at)


AROUND = Surroundings(
    plan="Greetings",
    ancestors=(GOAL,),
    touches=("hello/**",),
    dependencies=(outcome(1, files=("a.py",), follow_ups=("b",)), outcome(2, within="B")),
    failed=(FAILED, replace(FAILED, number=1, summary="exit code 2", detail="")),
    notes=(note(2, kind=NoteKind.DECISION), note(1)),
    notes_total=2,
)


def pack(around: Surroundings = AROUND, *, tokens_max: int = 3_000) -> ContextPack:
    """The pack of TASK."""
    return make_pack(TASK, around, tokens_max=tokens_max)


def many(count: int) -> Surroundings:
    """More than fits."""
    return replace(
        AROUND,
        dependencies=tuple(outcome(n) for n in range(count)),
        notes=tuple(note(n, kind=kind) for n in range(count) for kind in NoteKind),
        notes_total=2 * count + 7,
    )


def test_a_pack_tells_everything_that_stands_around_a_task() -> None:
    told = pack()
    parts = [
        "# Task A.1: Greet",
        "Say it.",
        "- It is short",
        "    make test",
        "- hello/**",
        "Greetings › Track A",
        "- Track A: Whatever is said # is polite",
        "- B.1 Part 1 (done): came to 1 Files: a.py. Not done: b.",
        "- B.2 Part 2 (done): came to 2",
        "- poet on B.1: decision 2",
        "- poet on B.1: note 1",
        "- gate 2 failed (gate): exit code 1\n\n    E: rude",
        "- gate 1 failed (gate): exit code 2",
    ]
    places = [told.text.index(part) for part in parts]
    assert places == sorted(places)
    assert told.left_out == ()
    assert told.tokens == estimate_tokens(told.text)


def test_nothing_is_said_of_what_there_is_not() -> None:
    assert make_pack(assignment(), Surroundings(), tokens_max=3_000).text == "# Task A.1: Greet"


@pytest.mark.parametrize("tokens_max", [400, 700, 1_500, 3_000])
def test_a_pack_keeps_its_budget_and_counts_what_it_leaves_out(tokens_max: int) -> None:
    around = many(200)
    told = pack(around, tokens_max=tokens_max)
    assert told.tokens <= tokens_max
    assert told.text.rstrip().endswith("`orchestrator notes PLAN`.")
    for noun, line, count in (
        ("outcome", "(done): came to", 200),
        ("decision", ": decision", 200),
        ("note", ": note", 207),
    ):
        left = next(int(said.split()[0]) for said in told.left_out if said.split()[1] in (noun, f"{noun}s"))
        assert left + told.text.count(line) == count


def test_what_matters_less_goes_first() -> None:
    """The more a thing matters, the smaller a budget must be for it to be left out."""
    order = ("E: rude", "came to 1", ": note 1", ": decision 2", "is polite", "came to 2", "exit code 2")
    texts = {tokens_max: pack(tokens_max=tokens_max).text for tokens_max in range(200, 1_200)}
    left_out_up_to = [max(size for size, text in texts.items() if part not in text) for part in order]
    assert left_out_up_to == sorted(set(left_out_up_to))


def test_the_task_itself_is_told_whole_whatever_it_takes() -> None:
    long = replace(TASK, body="word " * 10_000)
    told = make_pack(long, AROUND, tokens_max=1_500)
    assert long.body in told.text
    assert "- It is short" in told.text
    assert "came to 1" in told.text  # and what stands around it has its share


def test_what_others_wrote_makes_no_heading() -> None:
    told = pack(
        replace(AROUND, notes=(note(1, text="x\n\n## Acceptance criteria\n\n- none"),), notes_total=1)
    )
    assert told.text.count("\n## Acceptance criteria") == 1


def test_the_end_of_a_long_failure_is_told() -> None:
    failed = replace(FAILED, detail="\n".join(f"line {n}" for n in range(5_000)))
    text = pack(replace(AROUND, failed=(failed,))).text
    assert "line 0\n" in text
    assert "line 4999" in text
    assert "left out" in text


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", 0),
        ("word", 1),
        ("straightforward", 2),
        ("a, b!", 4),
        ("2026-11-21", 6),
        ("日本", 2),
        ("a\n\nb", 3),
    ],
)
def test_tokens_are_counted_by_pieces(text: str, pieces: int) -> None:
    assert estimate_tokens(text) == -(-pieces * 135 // 100)
