"""The words of prose that say that one task waits for another, profits from it or is related to it.

A cue stands between what it speaks of and its objects: "[T2] *depends on* [T1]". How sure it is, is a guess
that the labelled sentences of `tests/unit/plan/prose_hints.txt` bear out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from string import ascii_lowercase, ascii_uppercase

from orchestrator.plan.model import DependencyKind

#: An inferred edge that is less sure than this never orders tasks: it only informs.
BLOCKS_CONFIDENCE_MIN = 0.7


class Shape(Enum):
    """How a cue is built into its sentence."""

    VERB = auto()  #: "depends on", "requires": a modal before it ("may require") makes it a mere possibility
    TIME = auto()  #: "after", "once": it may stand in front: "Once T1 is merged, T2 starts."
    WHEN = auto()  #: "when": like TIME, and only with words of completion: "when T1 is done"
    UNTIL = auto()  #: "until": a "not" before it belongs to it: "do not start until T1 is done"
    BEFORE = auto()  #: "before": says the reverse after "not", nothing after "can"
    FIRST = auto()  #: "must be done first": it has no object, its subject comes before the task at hand


@dataclass(frozen=True, slots=True)
class Cue:
    """One sort of words. `is_reverse`: the objects wait for the subject, not the subject for them."""

    pattern: str
    confidence: float
    shape: Shape = Shape.VERB
    kind: DependencyKind = DependencyKind.BLOCKS
    is_reverse: bool = False


#: Of two that begin at one place the first has it.
CUES = (
    Cue(
        r"(?:must|has\s+to|have\s+to|needs?\s+to|should)\s+(?:\w+\s+){0,4}first|(?:comes?|goes?)\s+first",
        0.85,
        Shape.FIRST,
    ),
    Cue(r"un(?:blocks?|locks?)|enables?|(?:is\s+|are\s+)?blocking", 0.85, is_reverse=True),
    Cue(r"(?:needed|required)\s+(?:by|for|before)|holds?\s+up|precedes?", 0.85, is_reverse=True),
    Cue(r"prerequisites?\s+(?:for|of|to)", 0.9, is_reverse=True),
    Cue(r"prerequisites?\s*:|prerequisites?\s+(?:is|are)", 0.9),
    Cue(r"(?:depend(?:s|ing|ent)?|dependenc(?:y|ies))(?:\s+\w+ly)?\s+(?:up)?on", 0.95),
    Cue(r"(?:blocked|gated|held\s+up)\s+(?:by|on|behind)", 0.95),
    Cue(r"blocks?", 0.85, is_reverse=True),
    Cue(r"wait(?:s|ing)?\s+(?:for|on|until|till)", 0.9),
    Cue(r"requir(?:es?|ing)(?:\s+that)?\s*:?", 0.9),
    Cue(r"needs?(?!\s+to\b|\s+for\b)\s*:?", 0.85),
    Cue(r"(?:built|builds?)\s+(?:up)?on(?:\s+top\s+of)?|relies\s+on|rely\s+on|presupposes?|assumes?", 0.8),
    Cue(r"until|till", 0.9, Shape.UNTIL),
    Cue(r"after|once|as\s+soon\s+as", 0.85, Shape.TIME),
    Cue(r"follows?", 0.8, Shape.TIME),
    Cue(r"when(?:\s+both)?", 0.8, Shape.WHEN),
    Cue(r"before", 0.85, Shape.BEFORE, is_reverse=True),
    Cue(
        r"(?:uses?|reads?|takes?|consumes?)\s+(?:the\s+|its\s+|their\s+)?(?:outputs?|results?|findings|input)"
        r"\s+(?:of|from)|based\s+on",
        0.6,
        kind=DependencyKind.INFORMS,
    ),
    Cue(r"informs?|feeds?(?:\s+into)?", 0.6, kind=DependencyKind.INFORMS, is_reverse=True),
    Cue(
        r"see(?:\s+also)?|relate[sd]\s+to|similar\s+to|same(?:\s+\w+)?\s+(?:as|in)|cf\b",
        0.5,
        kind=DependencyKind.RELATES,
    ),
)

#: Parts of words without which no cue is in a text: a look for them costs almost nothing.
STEMS = (
    *(
        "depend",
        "requir",
        "need",
        "block",
        "gate",
        "wait",
        "until",
        "till",
        "after",
        "once",
        "soon as",
        "when",
    ),
    *("before", "first", "follow", "prereq", "precede", "enable", "unlock", "hold", "held up", "buil", "rel"),
    *("presuppos", "assum", "output", "result", "finding", "input", "based on", "inform", "feed", "see"),
    *("similar", "same", "cf"),
)

_ALL = re.compile(
    r"(?<![\w-])(?:"
    + "|".join(f"(?P<c{number}>{cue.pattern})" for number, cue in enumerate(CUES))
    + r")(?![\w-])"
)
#: Small letters for capitals, one for one, so that places stay; faster than to search for both.
_LOWERED = str.maketrans(ascii_uppercase, ascii_lowercase)


def find_cues(text: str, start: int, end: int) -> list[tuple[Cue, int, int]]:
    """The cues of a part of a text, each with the place where it begins and ends."""
    return [
        (CUES[int((match.lastgroup or "c0")[1:])], start + match.start(), start + match.end())
        for match in _ALL.finditer(text[start:end].translate(_LOWERED))
    ]
