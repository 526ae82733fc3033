"""Lines that look like fields and are none: names with a slip in them, and fields of something else.

They stay text. A finding tells of them, because a limit or a check that nobody reads is missed too late.
Prose is left alone: only names count that decide how a task is run, and only one letter that is missing, too
many, another, or has changed places with its neighbour.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from orchestrator.backends import PROVIDERS
from orchestrator.errors import Finding
from orchestrator.plan.findings import Code

#: Names of fields of a task in which a slip is told. Left out are those next to which real words stand.
_OF_TASKS = (
    "acceptance", "acceptance criteria", "agent", "agent type", "approve", "attempts", "blocked by", "budget",
    "dependencies", "depends", "depends on", "estimate", "idle timeout", "manual", "priority", "retry lost",
    "review", "simulate", "start timeout", "timeout", "touches", "verify",
)  # fmt: skip

#: The same of the head of a plan.
_OF_PLANS = ("agent", "backend", "branch", "budget", "include", "repository", "review", "setup", "workdir")

#: Fields of tasks that a head is sometimes given, for all of them.
_OF_TASKS_ONLY = frozenset({"attempts", "grace", "idle timeout", "retry lost", "start timeout", "timeout"})

#: Words that are no slips.
_WORDS = frozenset({"attempt", "preview", "touched"})

_NAMED = re.compile(
    r"(?:\*\*|__)?(?P<name>[A-Za-z][A-Za-z _-]{3,24}?)(?:\*\*|__)?\s*:(?:\*\*|__)?(?:\s+(?P<value>\S.*))?$"
)
#: What is meant as a model: a short name of Claude's, or one word with a number and a `-` or `:`.
_MODEL = re.compile(r"fable|opus|sonnet|haiku|(?=\S*\d)[a-z][\w./]*[-:][\w./:-]+", re.IGNORECASE)


def slip_in_task(text: str, line: int) -> Finding | None:
    """Return the finding for a line of a task's text that looks like a field; None for any other."""
    match = _NAMED.match(text)
    if match is None:
        return None
    name, value = match["name"].strip().lower(), (match["value"] or "").strip().strip("`")
    if name == "backend" and value in ("auto", *PROVIDERS):
        place = "the head of the plan, or into the file of the agent type that `agent:` names"
        return _elsewhere(name, "tasks", place, line)
    if name == "model" and _MODEL.fullmatch(value):
        return _elsewhere(name, "tasks", "the file of the agent type that `agent:` names", line)
    return _slip(match["name"].strip(), _OF_TASKS, line)


def slips_in_head(lines: Iterable[str], names: Collection[str]) -> Iterator[Finding]:
    """Yield the findings for what a head says under names that it does not have.

    Args:
        lines: of the text, from its beginning.
        names: what the head gives.
    """
    places = {line.partition(":")[0].strip(): number for number, line in enumerate(lines, 1) if ":" in line}
    for name in names:
        line = places.get(name, 1)
        if name == "model":
            yield _elsewhere(name, "plans", "the file of the agent type that `agent:` names", line)
        elif name.lower() in _OF_TASKS_ONLY:
            yield _elsewhere(name, "plans", "each task that it is meant for", line)
        elif found := _slip(name, _OF_PLANS, line):
            yield found


def _elsewhere(name: str, of: str, place: str, line: int) -> Finding:
    message = f"`{name}:` is no field of {of}: nothing reads it here."
    return Code.NO_FIELD.at(line, message, remedy=f"Write it into {place}.")


def _slip(name: str, known: Collection[str], line: int) -> Finding | None:
    word = name.lower()
    meant = "" if word in _WORDS else next((field for field in known if _is_slip(word, field)), "")
    if not meant:
        return None
    message = f"`{name}:` is no field, and is taken for text."
    return Code.NO_FIELD.at(line, message, remedy=f"Write `{meant}:` if that is meant.")


def _is_slip(word: str, meant: str) -> bool:
    """Whether a word is one slip away from another; one that only goes on, such as `reviewer`, is none."""
    if abs(len(word) - len(meant)) > 1 or word.startswith(meant):
        return False
    start = _shared(word, meant)
    left, right = word[start:], meant[start:]
    end = _shared(left[::-1], right[::-1])
    left, right = left[: len(left) - end], right[: len(right) - end]
    return max(len(left), len(right)) == 1 or (len(left) == 2 and left == right[::-1])


def _shared(one: str, other: str) -> int:
    """Return how many letters two words have in common at their beginnings."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
