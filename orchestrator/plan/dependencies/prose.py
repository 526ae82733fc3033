"""From a line of prose to what it says about the order of tasks. Pure: words in, hints out.

Rule: better no edge than a wrong one. A sentence that negates, asks, supposes, reports or tells of the past
says nothing, and neither does what stands in quotation marks, in code or struck out. "not" reaches to the
next comma, colon, semicolon or "but", as in NegEx (Chapman et al. 2001).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.plan.dependencies.cues import BLOCKS_CONFIDENCE_MIN, STEMS, Cue, Shape, find_cues
from orchestrator.plan.dependencies.references import (
    Reference,
    ReferenceKind,
    find_references,
    may_name,
    without_hashes,
)
from orchestrator.plan.keys import KEY
from orchestrator.plan.model import DependencyKind

LINE_CHARS_MAX = 4000
_GAP_CHARS_MAX = 70
_HEDGED = 0.7  #: what is left of the confidence after "ideally", "probably"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """What comes before what; an empty side is the task in whose words the hint stands.

    Attributes:
        start, end: the words that say so, in the text.
    """

    first: tuple[Reference, ...]
    then: tuple[Reference, ...]
    kind: DependencyKind
    confidence: float
    start: int
    end: int


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


_CODE = re.compile(r"`+([^`]+)`+")
_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|(?<![\w'])'[^']{2,}'(?![\w'])")
_HIDDEN = re.compile(r"~~.*?~~|<!--.*?-->|\]\([^)]*\)|https?://\S+")
_HIDING = re.compile(r"[`\"“„«'~<]|\]\(|://")  #: without one of these signs nothing is hidden
_MARKUP = str.maketrans("*[]", "   ")
_EMPHASIS = re.compile(r"(?<!\w)_+|_+(?!\w)")
_SHORT = re.compile(r"\b(?:cf|e\.g|i\.e|vs|approx)(\.)", re.IGNORECASE)
_ONLY_NAMES = re.compile(rf"[\s#]*(?:Task\s+)?(?:{KEY}(?:\s*[-–,]\s*{KEY})*|#\d+)\s*")
_SENTENCE = re.compile(r"[^.!?]*(?:[.!?](?!\s|$)[^.!?]*)*[.!?]?")

_NOT = _words(r"not|no|never|neither|nor|none|nothing|without|cannot|\w+n['’]t")
_STILL_NOT = re.compile(r"\s*(?:or|nor)\b", re.IGNORECASE)
_SUPPOSING = _words(r"if|unless|in\s+case|whether")
_MAYBE = _words(r"might|perhaps|maybe|possibly")
_MODAL = _words(r"may|can|could|would")
_REPORTED = _words(r"says?|said|asks?|asked|claims?|claimed|told|reads(?!\s+the)")
_HEDGE = _words(r"ideally|preferably|probably|likely|best")
_PAST = _words(r"was|were|had|used\s+to|previously|formerly|originally|earlier|until\s+(?:last|recently)")
_PAST_VERB = (
    r"(?!block|gat|need|paus|park|defer|postpon|schedul|plann)\w+ed"
    r"|found|broke|rewrote|saw|lost|made|went|fell"
)
_TOLD = re.compile(
    rf"\W*(?:{_PAST_VERB})\b|.*\b(?:we|i|they|it|he|she|which|who)\s+(?:\w+ly\s+)?(?:{_PAST_VERB})\b",
    re.IGNORECASE,
)
_SCOPE_END = re.compile(r"[,;:()—]|\s-\s|\b(?:but|however|whereas|though)\b", re.IGNORECASE)

_GAP_STOP = re.compile(r"[,;()!?—]|\b(?:not|no|without|than|except|unlike|instead|because)\b", re.IGNORECASE)
_JOINT = re.compile(
    r"\s*(?:\([^()]*\))?\s*(?:,\s*(?:and|or|&)?|and|or|&|\+|/|plus|as\s+well\s+as)?\s*"
    r"(?:(?:both|the|all|tasks?|of|section|on|also)\s+|`)*`?\s*",
    re.IGNORECASE,
)
_REMARK = re.compile(r"\s*\([^()]*\)")
_CONJUNCTION = _words(r"and|or|&|plus")
_OPENING = re.compile(
    r"(?:[\s\W]|\d+[.)]\s|\b(?:the|then|tasks?|both|all|of|section|and|so|only)\b"
    r"|\b(?:no|nothing|none)(?:\s+(?:tasks?|work|parts?))?\s+(?:of|in|on)\b)*",
    re.IGNORECASE,
)
_SAME_SUBJECT = re.compile(
    r"[\s,;]*(?:\([^()]*\))?[\s,;—–-]*(?:(?:and|or|but|also|then|it|they|is|are|will|must|can|only)\b\s*)*",
    re.IGNORECASE,
)
_RELATIVE = re.compile(r"[\s,]*(?:which|that)\b", re.IGNORECASE)
_DOES = re.compile(
    r"\s*(?:\([^()]*\)\s*)?(?:can|may|must|will|should|shall|starts?|begins?|runs?|goes?|follows?)\b",
    re.IGNORECASE,
)
_COMPLETES = re.compile(
    r"\s*(?:\([^()]*\)\s*)?(?:is|are|has|have|lands?|ships?|merges?|completes?|finish(?:es)?|closes?|pass(?:es)?)\b",
    re.IGNORECASE,
)
_FAILS = re.compile(r"\s*(?:fails?|failed|breaks?|broke|slips?)\b", re.IGNORECASE)
_THIS = re.compile(r"\s*(?:this|it)\b(?:\s+task)?", re.IGNORECASE)

#: What may stand before a number that is an id; after a name ("Python 3.11") it is a version.
_BEFORE_NUMBER = re.compile(
    r"(?:^|[(,;:+&/`.!?-]|\b(?:tasks?|sub-?tasks?|on|by|for|and|or|of|from|to|in|with|both|than|that|all|see|cf"
    r"|after|before|until|till|once|when|as|requires?|needs?|follows?|blocks?|unblocks?|enables?"
    r"|unlocks?|precedes?|feeds?|into|up|also|is|are|then|through))\s*$",
    re.IGNORECASE,
)
_QUANTITY = re.compile(
    r"\s*(?:%|°|(?:m?s|secs?|seconds?|min(?:ute)?s?|h|hrs?|hours?|d|days?|weeks?|months?|years?|x|times"
    r"|[kmgt]i?b|[kmg]hz|px|millions?|percent|points?|or\s+(?:newer|later|higher|above))\b)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d")


def read_hints(text: str, *, is_name: Callable[[str], bool] | None = None) -> Iterator[Hint]:
    """Yield what a line says, in order. Linear in the line.

    Args:
        is_name: whether a single word is an id or the name of a section; None where none is.
    """
    if len(text) > LINE_CHARS_MAX or not (is_name or may_name(text)) or not _may_cue(text):
        return
    masked = _masked(text)
    named = find_references(masked, with_names=is_name is not None)
    found = [reference for reference in named if _is_meant(masked, reference, is_name)]
    if not found:
        return
    for match in _SENTENCE.finditer(masked):
        inside = [each for each in found if match.start() <= each.start < match.end()]
        if inside and not match[0].endswith("?") and not _SUPPOSING.search(match[0]):
            yield from _Sentence(masked, match.start(), match.end(), inside).hints()


def _may_cue(text: str) -> bool:
    lowered = text.lower()
    return any(stem in lowered for stem in STEMS)


def _masked(text: str) -> str:
    """The text with blanks, in the same places, for what does not speak: markup, quotations, code."""

    def blank(match: re.Match[str]) -> str:
        return " " * len(match[0])

    def code(match: re.Match[str]) -> str:
        return match[0].replace("`", " ") if _ONLY_NAMES.fullmatch(match[1]) else "_" * len(match[0])

    if _HIDING.search(text):
        text = _HIDDEN.sub(blank, text)
        text = _CODE.sub(code, text)
        text = _QUOTED.sub(lambda match: "_" * len(match[0]), text)
    text = without_hashes(_SHORT.sub(lambda match: match[0][:-1] + " ", text).translate(_MARKUP))
    return _EMPHASIS.sub(blank, text) if "_" in text else text


def _is_meant(text: str, reference: Reference, is_name: Callable[[str], bool] | None) -> bool:
    if reference.kind is ReferenceKind.OUTSIDE:
        return is_name is not None and is_name(reference.text)
    if reference.kind in (ReferenceKind.KEY, ReferenceKind.RANGE) and reference.first[0].isdigit():
        before = text[max(0, reference.start - 20) : reference.start]
        return bool(_BEFORE_NUMBER.search(before)) and not _QUANTITY.match(text, reference.end)
    return True


class _Sentence:
    """One sentence, read cue by cue from left to right."""

    def __init__(self, text: str, start: int, end: int, found: Sequence[Reference]) -> None:
        self._text = text
        self._start = start
        self._end = end
        self._all = found
        self._remarks = [match.span() for match in _REMARK.finditer(text, start, end)]
        self._found = self._all
        self._read_to = start  # the end of the objects of the last cue
        self._subject: tuple[Reference, ...] = ()
        self._objects: tuple[Reference, ...] = ()
        self._was_negated = False

    def hints(self) -> Iterator[Hint]:
        """Yield the hints of the sentence."""
        cues = find_cues(self._text, self._start, self._end)
        limits = [*(start for _, start, _ in cues), self._end][1:]
        for (cue, start, end), limit in zip(cues, limits, strict=True):
            if hint := self._hint(cue, start, end, limit):
                yield hint

    def _hint(self, cue: Cue, start: int, end: int, limit: int) -> Hint | None:
        self._found = self._said_beside(start)
        subject = self._subject_before(start)
        if cue.shape is Shape.FIRST:
            objects, subject = subject, ()
            is_about = bool(objects)
        else:
            objects = self._list_from(end, limit)
            if cue.shape in (Shape.TIME, Shape.WHEN) and not subject and self._is_front(start):
                objects, subject = self._fronted(objects)
            is_about = bool(objects) or (bool(subject) and _THIS.match(self._text, end, limit) is not None)
        if not is_about:
            return None
        confidence, is_reverse = self._judge(cue, start, objects)
        self._subject, self._objects = subject, objects
        self._read_to = max([end, *(each.end for each in objects if each.start >= end)])
        if remark := _REMARK.match(self._text, self._read_to, limit):
            self._read_to = remark.end()
        if not confidence:
            return None
        first, then = (subject, objects) if is_reverse else (objects, subject)
        is_weak = cue.kind is DependencyKind.BLOCKS and confidence < BLOCKS_CONFIDENCE_MIN
        return Hint(
            first=first,
            then=then,
            kind=DependencyKind.INFORMS if is_weak else cue.kind,
            confidence=confidence,
            start=min([start, *(each.start for each in (*subject, *objects))]),
            end=max([end, *(each.end for each in (*subject, *objects))]),
        )

    def _said_beside(self, cue_start: int) -> list[Reference]:
        """The names that a cue may speak of: what stands in brackets is for a cue in the same brackets."""
        others = [span for span in self._remarks if not span[0] <= cue_start < span[1]]
        return [each for each in self._all if not any(first < each.start < last for first, last in others)]

    # -- who is spoken of -------------------------------------------------------------------------------

    def _subject_before(self, end: int) -> tuple[Reference, ...]:
        """The tasks that the cue is said of; none = the task at hand."""
        before = [each for each in self._found if self._read_to <= each.start and each.end <= end]
        if not before:
            return self._subject_unnamed(end)
        whole = self._opening_list(self._read_to, before)
        if len(whole) == len(before):
            return whole
        piece = max(self._text.rfind(mark, self._read_to, end) for mark in ",;:")
        return (
            self._opening_list(piece + 1, [each for each in before if each.start > piece])
            if piece > 0
            else ()
        )

    def _subject_unnamed(self, end: int) -> tuple[Reference, ...]:
        """The subject of a cue without names before it: a label, the last subject, or the task at hand."""
        between = self._text[self._read_to : end]
        if self._read_to == self._start:  # "**Polish (Phase 6)**: depends on ..."
            is_labelled = between.rstrip().endswith(":")
            return self._joined([each for each in self._all if each.end <= end]) if is_labelled else ()
        if _RELATIVE.match(between):
            return self._objects
        return self._subject if _SAME_SUBJECT.fullmatch(between) else ()

    def _opening_list(self, start: int, found: Sequence[Reference]) -> tuple[Reference, ...]:
        """The names joined to each other with which a part of the sentence begins."""
        if not found or not _OPENING.fullmatch(self._text, start, found[0].start):
            return ()
        return self._joined(found)

    def _list_from(self, start: int, limit: int) -> tuple[Reference, ...]:
        """The names that follow a cue, joined to each other."""
        after = [each for each in self._found if start <= each.start and each.end <= limit]
        if not after:
            return ()
        gap = self._text[start : after[0].start]
        if len(gap) > _GAP_CHARS_MAX or _GAP_STOP.search(gap):
            return ()
        return self._joined(after)

    def _joined(self, found: Sequence[Reference]) -> tuple[Reference, ...]:
        names = list(found[:1])
        for each in found[1:]:
            if each.start != names[-1].start and not _JOINT.fullmatch(self._text, names[-1].end, each.start):
                break
            names.append(each)
        return tuple(names)

    def _is_front(self, start: int) -> bool:
        return _OPENING.fullmatch(self._text, self._start, start) is not None

    def _fronted(self, objects: tuple[Reference, ...]) -> tuple[tuple[Reference, ...], tuple[Reference, ...]]:
        """Split "Once T1 is merged, T2 can start" and "After T1, T2 can start" into T1 and T2."""
        if not objects:
            return (), ()
        between = self._text[objects[0].end : objects[-1].start]
        if len(objects) > 1 and not _CONJUNCTION.search(between) and _DOES.match(self._text, objects[-1].end):
            return objects[:-1], objects[-1:]
        comma = self._text.find(",", objects[-1].end, self._end)
        rest = [each for each in self._found if each.start > comma > 0]
        main = self._opening_list(comma + 1, rest)
        return objects, main if main and _DOES.match(self._text, main[-1].end) else ()

    # -- whether it is said in earnest ------------------------------------------------------------------

    def _judge(self, cue: Cue, start: int, objects: Sequence[Reference]) -> tuple[float, bool]:
        """How sure the cue is in its place (0: it says nothing), and in which direction it points."""
        scope = self._scope(start)
        is_negated = _NOT.search(scope) is not None or (
            self._was_negated and _STILL_NOT.match(scope) is not None
        )
        self._was_negated = is_negated
        is_reverse = cue.is_reverse
        if cue.shape is Shape.BEFORE and is_negated:
            is_negated = is_reverse = False
        elif cue.shape is Shape.BEFORE and _MODAL.search(scope):
            return 0.0, is_reverse
        elif cue.shape is Shape.UNTIL:
            is_negated = False
        is_time = cue.shape in (Shape.TIME, Shape.WHEN, Shape.UNTIL, Shape.BEFORE)
        silent = (
            is_negated
            or _MAYBE.search(scope)
            or _PAST.search(scope)
            or _REPORTED.search(self._text, self._start, start)
            or (not is_time and _MODAL.search(scope))
            or (is_time and _TOLD.match(scope))
            or (objects and cue.shape is not Shape.FIRST and _FAILS.match(self._text, objects[-1].end))
            or (cue.shape is Shape.WHEN and objects and not _COMPLETES.match(self._text, objects[-1].end))
        )
        if silent:
            return 0.0, is_reverse
        return cue.confidence * (_HEDGED if _HEDGE.search(scope) else 1.0), is_reverse

    def _scope(self, start: int) -> str:
        """The words before the cue that may turn what it says."""
        begin = self._read_to
        for match in _SCOPE_END.finditer(self._text, begin, start):
            begin = match.end()
        return self._text[begin:start]
