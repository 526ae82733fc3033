"""What a text names: ids, ranges (`4.1-4.5`), sections (`Phase 1 complete`, `Phases 4 and 5`), groups.

Groups are `All tasks`, `All backend tasks` and `all prior phases`; a task may also be called by its number
(`#12`, `Task 3`) or its place (`the previous task`). Rule: nothing is guessed here; whether a task has the
name is for `lookup.py` to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.plan.keys import KEY


class ReferenceKind(StrEnum):
    """What a part of a text names."""

    KEY = "key"
    RANGE = "range"
    NUMBER = "number"  #: `#12`, `acme/shop#12`, `Task 3`: a task of this plan, or one elsewhere
    PREVIOUS = "previous"  #: `the previous task`, `the step above`
    SECTION = "section"  #: `Phase 0`, `All Week 4 tasks`, `User Story 2`, `Section B`
    SECTIONS = "sections"  #: `all prior phases`, `all user stories`
    ALL = "all"  #: `All tasks`
    TOPIC = "topic"  #: `All backend tasks`
    OUTSIDE = "outside"  #: a name that is none of these


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One thing that a text names.

    Attributes:
        first: the id, the name of the (first) section in lower case, or what precedes: `task`, `step`.
        last: the end of a range; `earlier` or `later` of `SECTIONS` that say so.
        start, end: where the text names it.
    """

    kind: ReferenceKind
    text: str
    first: str
    last: str = ""
    start: int = 0
    end: int = 0


_NONE = re.compile(
    r"\W*(?:(?:none|nothing|n/?a|no|no (?:other )?dependencies)(?![\w-]).*)?", re.IGNORECASE | re.DOTALL
)
_ENCLOSED = re.compile(r"\s*\(([^()]*)\)\s*")
_BRACKETS = re.compile(r"\([^()]*\)")
_SECTION = r"section(?!s?\s+[A-Z\d]+\.\d)"  #: `section A.2` is an id
_UNITS = rf"phase|week|sprint|track|part|stage|milestone|epic|wave|user\s+story|{_SECTION}"
_ANY_WORD = rf"all|{_UNITS}|task|step|item|previous|preceding|prior"
#: An issue of GitHub; `#B.2` and `#3.4` are ids.
_ISSUE_NUMBER = r"\d{1,9}(?![\w-]|\.\d)"
_TWIN = r"(?:~\d{1,6}(?!\w|\.\w))?"  #: the number behind an id that several tasks share
_REFERENCE = rf"""
    (?P<issue>(?<![\w./#-])(?:[\w.-]+/[\w.-]+)?[#]{_ISSUE_NUMBER}) | \b(?=[A-Z\d]|{_ANY_WORD})(?:
      (?P<all>(?i:\ball\s+(?:other\s+|previous\s+|prior\s+|preceding\s+|the\s+)?(?:tasks|above)\b)
        (?!\s+(?:of|in|from|under|below)\b))
    | (?i:\ball\s+(?:of\s+)?(?:the\s+)?
        (?P<which>other|previous|prior|preceding|earlier|later|following|subsequent|remaining)?\s*
        (?P<units>user\s+stories|phases|weeks|sprints|tracks|parts|stages|milestones|epics|waves)\b)
        (?!\s+[\dA-Z])
    | (?i:\ball\s+(?:of\s+)?(?:tasks\s+(?:of|in|from)\s+)?)?\b(?P<unit>(?i:{_UNITS}))(?P<plural>(?i:s))?\s+
        (?P<from>[A-Z]{{1,2}}(?!\w|\.\w)|\d+(?:\.\d+)*)
        (?:\s*(?:[-–—]|to|through)\s*(?P<to>\d+(?:\.\d+)*)|(?P<more>(?:\s*(?:[+&]|,\s*and|,|and)\s*\d+(?![\w.]))+))?
        (?i:\s+tasks?\b)?
    | (?i:\ball\s+(?P<topic>[a-z][\w-]*)\s+tasks?\b)
    | (?<!sub-)(?i:task)(?:(?P<numbers>(?i:s)\s+\d{{1,9}}(?:\s*(?:[+&]|,\s*and|,|and)\s*\d{{1,9}})*)
        |\s+(?P<number>\d{{1,9}}))(?![\w-]|\.\d)
    | (?<!\b[aA]\s)(?i:previous|preceding|prior)\s+(?P<before>(?i:task|step|item))\b
    | (?P<above>(?i:task|step|item))\s+(?i:above)\b
    | (?<![\w.-])(?P<first>{KEY}{_TWIN})
        (?:\s*(?:-|–|—|\.\.\.?|\bto\b|\bthrough\b)\s*(?P<last>{KEY}))?(?![\w-])
    )
    """
_SURE = re.compile(_REFERENCE, re.VERBOSE)
_NAMES_TOO = re.compile(rf"{_REFERENCE} | (?<![\w.-])(?P<name>[A-Za-z0-9][\w./-]*)", re.VERBOSE)
#: Every id has a sign of these; a look for it and for the other words costs little.
_KEY_SIGN = re.compile(r"[A-Z0-9#][.-]?\d|[Tt]asks?\s+\d")
_OTHER_SIGNS = (
    *("all", "phase", "week", "sprint", "track", "part", "stage", "milestone", "epic", "wave", "user"),
    *("section", "previous", "preceding", "prior", "above"),
)
_OTHER_HASH = re.compile(rf"#(?!{_ISSUE_NUMBER})")
_NOISE = frozenset(
    {"task", "tasks", "track", "section", "subtask", "subtasks", "and", "or", "the", "all", "above", "only"}
    | {"complete", "completed", "done", "finished", "merged", "ready", "is", "are", "be", "must", "none"}
    | {"after", "with", "on", "of"}
)
_EARLIER = frozenset({"previous", "prior", "preceding", "earlier", "other"})


def references(text: str) -> list[Reference]:
    """Read what the value of a dependency field names, in order; empty for `None` and the like.

    Linear in the text. Remarks in brackets and the words around the names are left out.
    """
    text = without_hashes(text.replace("`", " ").replace("*", " "))
    if enclosed := _ENCLOSED.fullmatch(text):
        text = enclosed[1]
    if _NONE.fullmatch(text):
        return []
    return list(find_references(_BRACKETS.sub(" ", text)))


def without_hashes(text: str) -> str:
    """The text with blanks for the hashes that begin no number of an issue: `#B.2` is the id `B.2`."""
    return _OTHER_HASH.sub(" ", text) if "#" in text else text


def may_name(text: str) -> bool:
    """Whether a text may name anything but what is outside: a quick look, which errs on this side only."""
    lowered = text.lower()
    return _KEY_SIGN.search(text) is not None or any(sign in lowered for sign in _OTHER_SIGNS)


def find_references(text: str, *, with_names: bool = True) -> Iterator[Reference]:
    """Yield what a text names, in order; `with_names` every other word too, as something outside."""
    for match in (_NAMES_TOO if with_names else _SURE).finditer(text):
        yield from _read(match)


def _read(match: re.Match[str]) -> Iterator[Reference]:
    groups = match.groupdict()
    if name := groups.get("name"):
        yield from _name(name, match.start())
    elif groups["unit"]:
        yield from _sections(match)
    elif numbers := groups["number"] or groups["numbers"]:
        yield from (_made(match, ReferenceKind.NUMBER, number) for number in re.findall(r"\d+", numbers))
    else:
        yield _one(match)


def _name(name: str, start: int) -> Iterator[Reference]:
    name = name.rstrip(".-/")
    if name.lower() not in _NOISE:
        yield Reference(kind=ReferenceKind.OUTSIDE, text=name, first=name, start=start, end=start + len(name))


def _sections(match: re.Match[str]) -> Iterator[Reference]:
    """`Phase 1 complete`, `Phases 1 to 3`, `Phases 4 and 5`."""
    unit = " ".join(match["unit"].lower().split())
    last = f"{unit} {match['to']}" if match["to"] else ""
    yield _made(match, ReferenceKind.SECTION, f"{unit} {match['from'].lower()}", last)
    is_list = match["plural"] or "+" in (match["more"] or "")
    for number in re.findall(r"\d+", match["more"] or "") if is_list else ():
        yield _made(match, ReferenceKind.SECTION, f"{unit} {number}")


def _one(match: re.Match[str]) -> Reference:
    """What is named by a single reference of any other kind."""
    if match["issue"]:
        return _made(match, ReferenceKind.NUMBER, match["issue"])
    if before := match["before"] or match["above"]:
        return _made(match, ReferenceKind.PREVIOUS, before.lower())
    if match["all"]:
        return _made(match, ReferenceKind.ALL, "")
    if match["units"]:
        which = (match["which"] or "").lower()
        side = "" if not which else "earlier" if which in _EARLIER else "later"
        return _made(match, ReferenceKind.SECTIONS, _one_of(match["units"]), side)
    if match["topic"]:
        return _made(match, ReferenceKind.TOPIC, match["topic"].lower())
    kind = ReferenceKind.RANGE if match["last"] else ReferenceKind.KEY
    return _made(match, kind, match["first"], match["last"] or "")


def _made(match: re.Match[str], kind: ReferenceKind, first: str, last: str = "") -> Reference:
    return Reference(
        kind=kind, text=match[0].strip(), first=first, last=last, start=match.start(), end=match.end()
    )


def _one_of(units: str) -> str:
    """The name of one of several: `user story` for `user stories`."""
    words = " ".join(units.lower().split())
    return words.removesuffix("ies") + "y" if words.endswith("ies") else words.removesuffix("s")
