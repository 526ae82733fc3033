"""The context pack: what a session is told of its task, within a budget of tokens.

The task's own words always go in whole. Of what stands around it the most important goes in first, as long
as there is room; what is left out is counted, with the way to get it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.sessions.output import Excerpt
from orchestrator.sessions.tokens import estimate_tokens
from orchestrator.surroundings import Ancestor, FailedAttempt, Surroundings, TaskOutcome
from orchestrator.views import NoteKind, NoteView

#: What stands around a task gets this share of a session's budget, however much its own words take.
SHARE_AROUND = 1 / 3
#: Tokens that are kept for saying what was left out.
_CLOSING = 90

_GOAL_CHARS = 1_200
_SUMMARY_CHARS = 400
_PATHS_MAX = 8
#: Of what the last failed attempt printed.
_HEAD_CHARS, _TAIL_CHARS = 800, 1_600

_HOW_TO_GET = (
    "The tool `notes` reads them: with the key of a task what is known of it, without one all notes;"
    " for people do `orchestrator show TASK` and `orchestrator notes PLAN`."
)


class Described(Protocol):
    """A task in its own words."""

    @property
    def key(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def body(self) -> str: ...
    @property
    def acceptance(self) -> tuple[str, ...]: ...
    @property
    def verify(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPack:
    """What is told.

    Attributes:
        text: Markdown.
        tokens: of the text, estimated.
        left_out: what did not fit, such as `3 notes`.
    """

    text: str
    tokens: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a pack, of several items that may be left out, the last ones first.

    Attributes:
        items: as they are to stand, the most important first.
        noun: what one of them is, as it is counted when left out.
        rank: sections of a lower one are filled first.
        more: items that there are beside these.
    """

    heading: str
    items: Sequence[str]
    noun: str
    rank: int
    more: int = 0


def make_pack(
    task: Described,
    around: Surroundings,
    *,
    tokens_max: int,
    checks: str = "Checks that run afterwards",
    share_around: float = SHARE_AROUND,
) -> ContextPack:
    """Return what a session is told of its task.

    Args:
        tokens_max: the budget. The pack is larger only where the task's own words leave less than the share.
        checks: heading of the lines that verify the task.
        share_around: of the budget, for what stands around the task however long its own words are.
    """
    own, sections = tuple(_own_parts(task, around, checks)), tuple(_sections(around))
    return fill(own, sections, tokens_max=tokens_max, how_to_get=_HOW_TO_GET, share=share_around)


def fill(
    own: Sequence[str],
    sections: Sequence[Section],
    *,
    tokens_max: int,
    how_to_get: str,
    share: float = 0.0,
) -> ContextPack:
    """Return the parts whole and of the sections what there is room for, each in its place.

    Args:
        how_to_get: said at the end if something is left out.
        share: of the budget, for the sections however long the parts are.
    """
    text = "\n\n".join(own)
    room = max(tokens_max - estimate_tokens(text), int(tokens_max * share)) - _CLOSING
    taken: dict[str, list[str]] = {}
    for section in sorted(sections, key=lambda section: section.rank):
        for item in section.items:
            heading = "" if section.heading in taken else _heading(section)
            tokens = estimate_tokens(f"{heading}{item}\n")
            if tokens > room:
                break
            room -= tokens
            taken.setdefault(section.heading, []).append(item)
    parts = [*own, *_told(sections, taken)]
    left_out = tuple(_left_out(sections, taken))
    if left_out:
        parts.append(f"Left out, to stay within {tokens_max:,} tokens: {', '.join(left_out)}. {how_to_get}")
    text = "\n\n".join(parts)
    return ContextPack(text=text, tokens=estimate_tokens(text), left_out=left_out)


def _heading(section: Section) -> str:
    return f"\n\n## {section.heading}\n\n"


def _told(sections: Sequence[Section], taken: dict[str, list[str]]) -> Iterable[str]:
    """Sections of one heading stand together."""
    for heading in dict.fromkeys(section.heading for section in sections):
        if heading in taken:
            yield f"## {heading}\n\n" + "\n".join(taken[heading])


def _left_out(sections: Sequence[Section], taken: dict[str, list[str]]) -> Iterable[str]:
    for section in sections:
        said = taken.get(section.heading, ())
        count = sum(item not in said for item in section.items) + section.more
        if count:
            yield f"{count} {section.noun}{'' if count == 1 else 's'}"


def _own_parts(task: Described, around: Surroundings, checks: str) -> Iterable[str]:
    yield f"# Task {task.key}: {task.title}"
    if task.body:
        yield task.body
    if task.acceptance:
        yield "## Acceptance criteria\n\n" + _bullets(task.acceptance)
    if task.verify:
        lines = "\n".join(f"    {line}" for line in task.verify)
        yield f"## {checks}\n\nEach of them must exit with 0.\n\n{lines}"
    if around.touches:
        yield "## Files that it is expected to change\n\n" + _bullets(around.touches)
    if around.plan:
        path = (around.plan, *(each.title for each in around.ancestors))
        yield f"## Where it belongs\n\n{' › '.join(map(one_line, path))}"


def _sections(around: Surroundings) -> Iterable[Section]:
    nearest = tuple(reversed(around.ancestors))
    direct = tuple(outcome_line(each) for each in around.dependencies if not each.within)
    below = tuple(outcome_line(each) for each in around.dependencies if each.within)
    notes, decisions = (
        tuple(note_line(note) for note in around.notes if note.kind is kind) for kind in NoteKind
    )
    unread = around.notes_total - len(around.notes)
    last, older = around.failed[:1], around.failed[1:]
    yield Section(heading="Goals", items=tuple(filter(None, map(_goal, nearest))), noun="goal", rank=4)
    yield Section(heading="What it builds on", items=direct, noun="outcome", rank=1)
    yield Section(heading="What it builds on", items=below, noun="inner outcome", rank=5)
    yield Section(heading="Decisions", items=decisions, noun="decision", rank=3)
    yield Section(heading="Notes", items=notes, noun="note", rank=2, more=unread)
    yield Section(heading="Earlier attempts", items=tuple(map(_failure, last)), noun="failure", rank=0)
    yield Section(heading="Earlier attempts", items=tuple(map(_failure, older)), noun="older failure", rank=6)


def _goal(ancestor: Ancestor) -> str:
    goal = one_line(ancestor.body, chars_max=_GOAL_CHARS)
    return f"- {one_line(ancestor.title)}: {goal}" if goal else ""


def outcome_line(task: TaskOutcome) -> str:
    """Return on one line what a task was, what came of it, and what it left behind."""
    said = one_line(task.summary, chars_max=_SUMMARY_CHARS)
    line = f"- {task.key} {one_line(task.title)} ({task.state})" + (f": {said}" if said else "")
    if task.files:
        line += f" Files: {_some(task.files)}."
    if task.follow_ups:
        line += f" Not done: {_some(task.follow_ups)}."
    return line


def _failure(attempt: FailedAttempt) -> str:
    name = f"- {attempt.kind} {attempt.number} failed ({attempt.failure_class}): {one_line(attempt.summary)}"
    excerpt = Excerpt(head_max=_HEAD_CHARS, tail_max=_TAIL_CHARS)
    excerpt.add(attempt.detail.strip())
    return f"{name}\n\n{_indented(excerpt.text)}" if excerpt.text else name


def note_line(note: NoteView) -> str:
    """Return a note on one line: whose it is, what it is on, what it says."""
    on = f" on {note.task_key}" if note.task_key else ""
    return f"- {note.author or 'a person'}{on}: {one_line(note.text)}"


def one_line(text: str, *, chars_max: int = 2_000) -> str:
    """Return the text on one line, so that it can make no heading of its own, cut where it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= chars_max else f"{line[:chars_max]}…"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _PATHS_MAX
    return one_line(", ".join(names[:_PATHS_MAX])) + (f" and {more} more" if more > 0 else "")


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
