"""What a text names: ids, ranges (`4.1-4.5`), sections (`Phase 1 complete`, `Phases 4 and 5`), groups.

Groups are `All tasks`, `All backend tasks` and `all prior phases`. Rule: nothing is guessed here; whether a
task has the name is for `lookup.py` to say.
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
    SECTION = "section"  #: `Phase 0`, `All Week 4 tasks`, `User Story 2`
    SECTIONS = "sections"  #: `all prior phases`, `all user stories`
    ALL = "all"  #: `All tasks`
    TOPIC = "topic"  #: `All backend tasks`
    OUTSIDE = "outside"  #: a name that is none of these


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One thing that a text names.

    Attributes:
        first: the id, or the name of the (first) section in lower case.
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
_UNITS = r"phase|week|sprint|track|part|stage|milestone|epic|wave|user\s+story"
_ANY_WORD = rf"all|{_UNITS}"
_REFERENCE = rf"""
    \b(?=[A-Z\d]|{_ANY_WORD})(?:
      (?P<all>(?i:\ball\s+(?:other\s+|previous\s+|prior\s+|preceding\s+|the\s+)?(?:tasks|above)\b)
        (?!\s+(?:of|in|from|under|below)\b))
    | (?i:\ball\s+(?:of\s+)?(?:the\s+)?
        (?P<which>other|previous|prior|preceding|earlier|later|following|subsequent|remaining)?\s*
        (?P<units>user\s+stories|phases|weeks|sprints|tracks|parts|stages|milestones|epics|waves)\b)
        (?!\s+[\dA-Z])
    | (?i:\ball\s+(?:of\s+)?(?:tasks\s+(?:of|in|from)\s+)?)?\b(?P<unit>(?i:{_UNITS}))(?P<plural>(?i:s))?\s+
        (?P<from>[A-Z]{{1,2}}(?![\w.])|\d+(?:\.\d+)*)
        (?:\s*(?:[-–—]|to|through)\s*(?P<to>\d+(?:\.\d+)*)|(?P<more>(?:\s*(?:[+&]|,\s*and|,|and)\s*\d+(?![\w.]))+))?
        (?i:\s+tasks?\b)?
    | (?i:\ball\s+(?P<topic>[a-z][\w-]*)\s+tasks?\b)
    | (?<![\w.-])(?P<first>{KEY})(?:\s*(?:-|–|—|\.\.\.?|\bto\b|\bthrough\b)\s*(?P<last>{KEY}))?(?![\w-])
    )
    """
_SURE = re.compile(_REFERENCE, re.VERBOSE)
_NAMES_TOO = re.compile(rf"{_REFERENCE} | (?<![\w.-])(?P<name>[A-Za-z0-9][\w./-]*)", re.VERBOSE)
#: Every id has a sign of these; a look for it and for the other words costs little.
_KEY_SIGN = re.compile(r"[A-Z0-9][.-]?\d")
_OTHER_SIGNS = tuple(word.partition("\\")[0] for word in _ANY_WORD.split("|"))
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
    text = text.replace("`", " ").replace("#", " ").replace("*", " ")
    if enclosed := _ENCLOSED.fullmatch(text):
        text = enclosed[1]
    if _NONE.fullmatch(text):
        return []
    return list(find_references(_BRACKETS.sub(" ", text)))


def may_name(text: str) -> bool:
    """Whether a text may name anything but what is outside: a quick look, which errs on this side only."""
    lowered = text.lower()
    return _KEY_SIGN.search(text) is not None or any(sign in lowered for sign in _OTHER_SIGNS)


def find_references(text: str, *, with_names: bool = True) -> Iterator[Reference]:
    """Yield what a text names, in order; `with_names` every other word too, as something outside."""
    for match in (_NAMES_TOO if with_names else _SURE).finditer(text):
        yield from _read(match)


def _read(match: re.Match[str]) -> Iterator[Reference]:
    def made(kind: ReferenceKind, first: str, last: str = "") -> Reference:
        return Reference(
            kind=kind, text=match[0].strip(), first=first, last=last, start=match.start(), end=match.end()
        )

    if match["all"]:
        yield made(ReferenceKind.ALL, "")
    elif match["units"]:
        which = (match["which"] or "").lower()
        side = "" if not which else "earlier" if which in _EARLIER else "later"
        yield made(ReferenceKind.SECTIONS, _one_of(match["units"]), side)
    elif match["unit"]:
        unit = " ".join(match["unit"].lower().split())
        yield made(
            ReferenceKind.SECTION,
            f"{unit} {match['from'].lower()}",
            f"{unit} {match['to']}" if match["to"] else "",
        )
        is_list = match["plural"] or "+" in (match["more"] or "")
        for number in re.findall(r"\d+", match["more"] or "") if is_list else ():
            yield made(ReferenceKind.SECTION, f"{unit} {number}")
    elif match["topic"]:
        yield made(ReferenceKind.TOPIC, match["topic"].lower())
    elif match["first"]:
        kind = ReferenceKind.RANGE if match["last"] else ReferenceKind.KEY
        yield made(kind, match["first"], match["last"] or "")
    elif (name := match["name"].rstrip(".-/")).lower() not in _NOISE:
        yield Reference(
            kind=ReferenceKind.OUTSIDE,
            text=name,
            first=name,
            start=match.start(),
            end=match.start() + len(name),
        )


def _one_of(units: str) -> str:
    """The name of one of several: `user story` for `user stories`."""
    words = " ".join(units.lower().split())
    return words.removesuffix("ies") + "y" if words.endswith("ies") else words.removesuffix("s")
