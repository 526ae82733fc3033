"""Field lines of a task (`agent:`, `**Time Estimate:** 4 hours`, `- run: ...`) and notes in its title.

Rule: only the names in `FIELD_NAMES` are fields; any other line with a colon is prose. A value that cannot
be read is reported and left out, never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from orchestrator.core.words import RetryLost
from orchestrator.errors import Finding
from orchestrator.money import MICROS
from orchestrator.plan.amounts import DURATION_MS_MAX, duration_ms, is_duration, money_micros, priority_of
from orchestrator.plan.draft import Node, Said, Statement
from orchestrator.plan.findings import Code
from orchestrator.plan.model import DependencyKind, MarkSpan
from orchestrator.plan.states import read_status

#: What authors write before the colon, and the one name of the field.
FIELD_NAMES: Mapping[str, str] = {
    "agent": "agent", "agents": "agent", "agent type": "agent", "assigned agent": "agent",
    "estimate": "estimate", "time estimate": "estimate", "estimated time": "estimate",
    "estimated effort": "estimate", "duration": "estimate", "effort": "estimate",
    "estimated hours": "hours", "points": "points", "story points": "points",
    "priority": "priority", "status": "status", "type": "type", "task type": "type", "domain": "domain",
    "depends": "depends", "depends on": "depends", "dependencies": "depends", "dependency": "depends",
    "after": "depends", "requires": "depends", "blocked by": "depends",
    "blocks": "blocks", "informs": "informs", "relates": "relates", "relates to": "relates",
    "independent test": "acceptance", "checkpoint": "checkpoint",
    "acceptance": "acceptance", "acceptance criteria": "acceptance", "success criteria": "acceptance",
    "completion criteria": "acceptance", "definition of done": "acceptance", "done when": "acceptance",
    "deliverables": "deliverables", "legend": "legend",
    "title": "title", "story": "story", "labels": "labels", "assignee": "assignee",
    "run": "run", "verify": "verify", "manual": "manual", "approve": "approve", "touches": "touches",
    "timeout": "timeout", "idle timeout": "idle timeout", "start timeout": "start timeout", "grace": "grace",
    "attempts": "attempts", "retry lost": "retry lost", "review": "review", "simulate": "simulate",
    "budget": "budget",
}  # fmt: skip

#: Most attempts that a task may ask for.
ATTEMPTS_MAX = 1000

#: Longest grace of a task. The scheduler allows for so much before it ends an overdue session itself.
GRACE_MS_MAX = 30_000

#: Largest budget of a task, in micros: plans that speak of more speak of the money of a project.
TASK_BUDGET_MICROS_MAX = 1_000 * MICROS

_TIME = "Write a time above zero and below 1000 weeks, such as `{name}: 10 min`."
#: What the value of an option is to be. One that is out of bounds is refused: it is never what was meant.
_OPTION_REMEDIES = {
    "attempts": f"Write a number from 1 to {ATTEMPTS_MAX}, such as `attempts: 3`.",
    "timeout": _TIME.format(name="timeout"),
    "idle timeout": _TIME.format(name="idle timeout"),
    "start timeout": _TIME.format(name="start timeout"),
    "grace": f"Write a time of at most {GRACE_MS_MAX // 1000} s, such as `grace: 10 s`.",
    "retry lost": f"Write {', '.join(RetryLost)}: may it start again after its session was lost?",
    "simulate": "Write `simulate: 1s fail 1`.",
    "budget": "Write what its sessions may spend, up to $1,000, such as `budget: $2.50`; else another word.",
}
_STATUS_REMEDY = "Write open, in progress, blocked, deferred, cancelled or done."
_SIGNED = re.compile(r"[-−+]\s*\d")
_LONG_NUMBER = re.compile(r"\d{8}")

#: Fields whose values may stand in a list or a fence below them.
LIST_FIELDS = frozenset(
    {
        "depends",
        "blocks",
        "informs",
        "relates",
        "acceptance",
        "deliverables",
        "legend",
        "run",
        "verify",
        "touches",
    }
)
#: Fields whose boxes are criteria or a legend, never tasks.
CRITERIA_FIELDS = frozenset({"acceptance", "legend"})

_FIELD = re.compile(
    r"(?:\*\*|__)?(?P<name>[A-Za-z][A-Za-z -]{1,24}?)(?:(?:\*\*|__)\s*:|\s*:(?:\*\*|__)?)"
    r"(?:\s+(?P<value>.*))?$",
    re.DOTALL,
)
_LABEL = re.compile(r"\*\*[^*:]{2,60}(?:\*\*\s*:|:\s*\*\*)")
#: A code span; of one to three back-ticks, so that a long row of them costs nothing.
_SPANS = re.compile(r"(?<!`)(`{1,3})(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_JOINTS = frozenset({"and", "then", "&&"})
_NOTE = re.compile(
    r"\s*[(\[{]([^()\[\]{}]{1,200})[)\]}]|\s*\*((?:effort|estimate|duration)[^*]{1,60})\*", re.IGNORECASE
)
_NOTE_FIELD = re.compile(
    r"(agent|priority|estimate|effort|duration|points|type|domain)\s*[:=]\s*(\S.*)", re.IGNORECASE
)
_CONNECTIVE = re.compile(
    r"\b(depends\s+on|dependencies|depends|after|requires|blocked\s+by|blocks|informs|relates\s+to)\b\s*:?\s*",
    re.IGNORECASE,
)
_TAIL = re.compile(r"\s(?:→|->|[-–—])\s+(?=(?:depends\s+on|after|requires|blocked\s+by)\s)", re.IGNORECASE)
_TITLE_CHARS_MAX = 2000
_AGENT_CHARS_MAX = 100
_YES = frozenset({"", "yes", "true", "y"})
_KINDS = {
    "blocks": (DependencyKind.BLOCKS, True),
    "informs": (DependencyKind.INFORMS, True),
    "relates": (DependencyKind.RELATES, False),
}


def split_field(text: str) -> tuple[str, str] | None:
    """A field line as the field's one name and its value; None if the line is no field."""
    match = _FIELD.match(text)
    name = FIELD_NAMES.get(match["name"].strip().lower()) if match else None
    if match is None or name is None:
        return None
    return name, (match["value"] or "").strip()


def is_label(text: str) -> bool:
    """Whether the line begins with a bold label, known or not; such a line ends the list above it."""
    return _LABEL.match(text) is not None


def apply_field(node: Node, name: str, value: str, *, line: int) -> Finding | None:
    """Take one field of a task. Returns what is wrong with its value, if anything."""
    return _SETTERS[name](node, name, value, line)


def apply_status(node: Node, value: str, *, line: int, start: int) -> Finding | None:
    """Take the `Status` field or cell of a task, which stands at the offset `start` of its source."""
    status = read_status(value)
    if status is None:
        return _unreadable("status", value, line, _STATUS_REMEDY)
    span = MarkSpan(start + status.start, start + status.end, status.notation)
    node.status = Said(status.mark, span)
    return None


def take_notes(node: Node) -> None:
    """Move what a title says beside the work itself to the fields: `(4h)`, `[P1]`, `(depends on A.1)`."""
    title = node.title
    if len(title) > _TITLE_CHARS_MAX:
        return
    if any(mark in title for mark in "([{*"):
        title = _NOTE.sub(
            lambda match: "" if _take_note(node, (match[1] or match[2]).strip()) else match[0], title
        )
    tails = list(_TAIL.finditer(title))
    if tails and (statements := _note_statements(title[tails[-1].end() :], node.line)):
        node.statements.extend(statements)
        title = title[: tails[-1].start()]
    node.title = title.strip() or node.title


def _take_note(node: Node, note: str) -> bool:
    """Take the words in one pair of brackets; False leaves them in the title."""
    if re.fullmatch(r"[Pp][0-4]", note):
        node.priority = priority_of(note)
    elif is_duration(note):
        node.estimate_ms = duration_ms(note)
    elif field := _NOTE_FIELD.fullmatch(note):
        return apply_field(node, FIELD_NAMES[field[1].lower()], field[2].rstrip(". "), line=node.line) is None
    else:
        statements = _note_statements(note, node.line)
        node.statements.extend(statements)
        return any(statement.is_strict for statement in statements)
    return True


def _note_statements(note: str, line: int) -> list[Statement]:
    """Read `after A.1, informs B.2`. Only "depends on" is strict: the other words also begin prose."""
    if not _CONNECTIVE.match(note):
        return []
    matches = list(_CONNECTIVE.finditer(note))
    ends = [match.start() for match in matches[1:]] + [len(note)]
    statements = []
    for match, end in zip(matches, ends, strict=True):
        word = " ".join(match[1].lower().split())
        kind, is_reverse = _KINDS.get(FIELD_NAMES[word], (DependencyKind.BLOCKS, False))
        is_strict = word.startswith("depend")
        text = note[match.end() : end]
        statements.append(
            Statement(text=text, line=line, kind=kind, is_reverse=is_reverse, is_strict=is_strict)
        )
    return statements


def unquoted(value: str) -> str:
    """A value without the back-ticks around it."""
    match = _SPANS.fullmatch(value)
    return match[2].strip() if match else value


#: What is meant to be a sum, well written or not.
_SUM = re.compile(r"[-$€£\s\d.,]*\d[-$€£\s\d.,]*")


def _unreadable(name: str, value: str, line: int, remedy: str, *, code: Code = Code.UNKNOWN_VALUE) -> Finding:
    return code.at(line, f"The value {value[:60]!r} of `{name}` cannot be read.", remedy=remedy)


def _agent(node: Node, name: str, value: str, line: int) -> Finding | None:
    span = _SPANS.search(value)
    words = (span[2] if span else re.split(r"\s*[(,]|\s[-–—]\s", value)[0]).strip(" *_")
    if len(words) > _AGENT_CHARS_MAX or not re.search(r"[A-Za-z0-9]", words):
        return _unreadable(name, value, line, "Name one agent type.")
    if name == "review":
        node.options[name] = words
    else:
        node.agent = words
    return None


def _estimate(node: Node, name: str, value: str, line: int) -> Finding | None:
    unit = {"hours": "h", "points": "point"}.get(name, "")
    amount_ms = duration_ms(value, default_unit=unit)
    if amount_ms is None:
        return _unreadable(name, value, line, "Write an amount such as `4h`, `2 days` or `30 min`.")
    node.estimate_ms = amount_ms
    return None


def _priority(node: Node, name: str, value: str, line: int) -> Finding | None:
    level = priority_of(value)
    if level is None:
        return _unreadable(name, value, line, "Write P0 to P4, or critical, high, medium or low.")
    node.priority = level
    return None


def _kind(node: Node, name: str, value: str, line: int) -> Finding | None:
    word = unquoted(value).lower()
    if name == "type":
        node.task_type = word
    else:
        node.domain = word
    return None


def _statement(node: Node, name: str, value: str, line: int) -> Finding | None:
    kind, is_reverse = _KINDS.get(name, (DependencyKind.BLOCKS, False))
    node.statements.append(Statement(text=value, line=line, kind=kind, is_reverse=is_reverse))
    return None


def _criterion(node: Node, name: str, value: str, line: int) -> Finding | None:
    if value and name != "legend":
        node.acceptance.append(value)
    return None


def _title(node: Node, name: str, value: str, line: int) -> Finding | None:
    """A title that is to be taken as it is, perhaps as a JSON string."""
    try:
        node.title = str(json.loads(value)) if value.startswith('"') else value or node.title
    except ValueError:
        return _unreadable(name, value, line, "Write the title, or close its quotation marks.")
    return None


def _label(node: Node, name: str, value: str, line: int) -> Finding | None:
    node.options[name] = unquoted(value)
    return None


def _checkpoint(node: Node, name: str, value: str, line: int) -> Finding | None:
    node.acceptance.append(value)
    node.task_type = "milestone"
    return None


def _shell(node: Node, name: str, value: str, line: int) -> Finding | None:
    spans = list(_SPANS.finditer(value)) if value.startswith("`") else []
    between = re.split(r"[\s,;]+", _SPANS.sub(" ", value)) if spans else []
    if any(word and word not in _JOINTS for word in between):
        remedy = "Put the whole command between back-ticks (double ones if it has some), or use none."
        return _unreadable(name, value, line, remedy, code=Code.UNREADABLE_OPTION)
    lines = node.run if name == "run" else node.verify
    lines.extend([span[2].strip() for span in spans] or [value])
    return None


def _touches(node: Node, name: str, value: str, line: int) -> Finding | None:
    spans = [span[2] for span in _SPANS.finditer(value)]
    node.touches.extend(part.strip() for part in spans or value.split(",") if part.strip())
    return None


def _manual(node: Node, name: str, value: str, line: int) -> Finding | None:
    words = node.title if unquoted(value).lower() in _YES else unquoted(value)
    if name == "manual":
        node.manual = words
    else:
        node.approve = words
    return None


def _option(node: Node, name: str, value: str, line: int) -> Finding | None:
    words = unquoted(value)
    if not _is_within_bounds(name, words):
        whose = f"The `{name}` of {node.own_key or repr(node.title)}"
        message = f"{whose} is {words[:60]!r}, which is out of bounds."
        return Code.OUT_OF_BOUNDS.at(line, message, remedy=_OPTION_REMEDIES[name])
    is_good = words.isdecimal() if name == "attempts" else duration_ms(words) is not None
    if not is_good:
        # never left out: without its timeout a task would do what its author wanted to prevent
        return _unreadable(name, value, line, _OPTION_REMEDIES[name], code=Code.UNREADABLE_OPTION)
    node.options[name] = words
    return None


def _is_within_bounds(name: str, words: str) -> bool:
    """Whether an amount can be meant; words that are no amount are not out of bounds but unreadable."""
    if name == "simulate":
        return True
    if _SIGNED.match(words) or _LONG_NUMBER.search(words):
        return False
    if name == "attempts":
        return not words.isdecimal() or 1 <= int(words) <= ATTEMPTS_MAX
    time_ms = duration_ms(words)
    if name == "grace":
        return time_ms is None or time_ms <= GRACE_MS_MAX
    return time_ms is None or 0 < time_ms < DURATION_MS_MAX


def _retry_lost(node: Node, name: str, value: str, line: int) -> Finding | None:
    word = unquoted(value).lower()
    if word not in {choice.value for choice in RetryLost}:
        return _unreadable(name, value, line, _OPTION_REMEDIES[name], code=Code.UNREADABLE_OPTION)
    node.options[name] = word
    return None


def _budget(node: Node, name: str, value: str, line: int) -> Finding | None:
    words = unquoted(value)
    micros = money_micros(words)
    if micros is None and _SUM.fullmatch(words):  # somebody meant a limit; without one it would cost more
        return _unreadable(name, value, line, _OPTION_REMEDIES[name], code=Code.UNREADABLE_OPTION)
    if not 0 < (micros or 0) <= TASK_BUDGET_MICROS_MAX:
        return _unreadable(name, value, line, _OPTION_REMEDIES[name])
    node.options[name] = words
    return None


_SETTERS: Mapping[str, Callable[[Node, str, str, int], Finding | None]] = {
    "agent": _agent, "estimate": _estimate, "hours": _estimate, "points": _estimate, "priority": _priority,
    "type": _kind, "domain": _kind, "depends": _statement, "blocks": _statement,
    "informs": _statement, "relates": _statement, "acceptance": _criterion, "deliverables": _criterion,
    "checkpoint": _checkpoint, "legend": _criterion, "run": _shell, "verify": _shell, "touches": _touches,
    "manual": _manual, "approve": _manual, "timeout": _option, "idle timeout": _option,
    "start timeout": _option, "grace": _option, "attempts": _option, "retry lost": _retry_lost,
    "review": _agent, "simulate": _option, "title": _title, "story": _label, "labels": _label,
    "assignee": _label, "budget": _budget,
}  # fmt: skip
