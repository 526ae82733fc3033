"""What the fields of an agent type file mean, each with the line where it stands; nonsense is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from orchestrator.core.task import GATE_POOL
from orchestrator.money import MICROS
from orchestrator.plan.amounts import duration_ms, money_micros

NAME_CHARS_MAX = 64
_DESCRIPTION_CHARS_MAX = 20_000
_COUNT_MAX = 1_000_000
_HOURS_MAX = 168
_COST_USD_MAX = 1_000

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

#: A value of the front matter: a text, several, or those of a mapping by their keys; each with its line.
Text: TypeAlias = tuple[str, int]
Value: TypeAlias = Text | list[Text] | dict[str, Text]


class Fault(Exception):
    """What is wrong at a line of a file, and what helps; caught where the file is read."""

    def __init__(self, line: int, message: str, remedy: str) -> None:
        super().__init__(message)
        self.line, self.message, self.remedy = line, message, remedy


def is_empty(value: Value) -> bool:
    """Tell whether nothing stands behind the key."""
    return isinstance(value, tuple) and not value[0].strip()


def plain(key: str) -> str:
    """Return a key as it is looked up."""
    return key.strip().lower().replace("-", "_").replace(" ", "_")


def text_of(name: str, value: Value) -> Text:
    """Return a value without blanks around it, and its line. Raises Fault."""
    if isinstance(value, tuple):
        return value[0].strip(), value[1]
    raise Fault(_line(value), f"`{name}` is no text.", f"Write `{name}: ...` with one value.")


def words_of(value: Value) -> list[Text]:
    """Return the words of a list, or of a text with commas between them. Raises Fault."""
    if isinstance(value, dict):
        raise Fault(_line(value), "A list is expected here.", "Write `[a, b]`, or `a, b`.")
    if isinstance(value, tuple):
        value = [(word, value[1]) for word in _between_commas(value[0])]
    return [(word.strip(), line) for word, line in value if word.strip()]


def one_of(allowed: tuple[str, ...], name: str, value: Value) -> str:
    """Return a value that is one of few. Raises Fault."""
    text, line = text_of(name, value)
    if text in allowed:
        return text
    raise Fault(line, f"`{name}: {text}` is none of those that there are.", f"Write {' or '.join(allowed)}.")


def name_of(value: Value | None) -> str:
    """Return the name of an agent type. Raises Fault, also where there is none."""
    if value is None:
        raise no_name()
    name, line = text_of("name", value)
    if name == GATE_POOL:
        raise Fault(line, f"`{GATE_POOL}` is the name under which gates run.", "Choose another name.")
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARS_MAX:
        message = f"The name `{name}` is not in lower case with single dashes, or is too long."
        raise Fault(line, message, f"Write `name: {meant_name(name) or 'my-agent'}`.")
    return name


def meant_name(text: str) -> str:
    """Return the name that a text could be, `game-designer` for `Game Designer!`; empty if it is none."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:NAME_CHARS_MAX].strip("-")


def no_name() -> Fault:
    """Return what is wrong with a file whose agent type has no name."""
    return Fault(1, "The agent type has no name.", "Write `name: my-agent` in the front matter.")


def description_of(value: Value) -> str:
    """Return a description. Raises Fault."""
    text, line = text_of("description", value)
    if len(text) > _DESCRIPTION_CHARS_MAX:
        message = f"The description has {len(text)} characters; at most {_DESCRIPTION_CHARS_MAX} are read."
        raise Fault(line, message, "Put the details into the text below the front matter.")
    return text


def mapping_of(name: str, value: Value) -> Mapping[str, Text]:
    """Return the fields below a field. Raises Fault."""
    if isinstance(value, dict):
        return value
    remedy = "Write below it, indented, `sessions: 2`, `timeout: 30m` or such."
    raise Fault(_line(value), f"`{name}` has no fields.", remedy)


def limit_of(key: str, value: Text) -> tuple[str, int | float]:
    """Return a limit, behind the name of its field in AgentLimits. Raises Fault."""
    if plain(key) not in LIMITS:
        raise Fault(_line(value), f"There is no limit `{key}`.", f"There are {', '.join(LIMITS)}.")
    field, read = LIMITS[plain(key)]
    return field, read(key, value)


def count_of(name: str, value: Value) -> int:
    """Return a whole number. Raises Fault."""
    text, line = text_of(name, value)
    if not re.fullmatch(r"[0-9]{1,7}", text) or not 1 <= int(text) <= _COUNT_MAX:
        message = f"`{name}: {text}` is no number from 1 to {_COUNT_MAX:,}."
        raise Fault(line, message, f"Write `{name}: 2` or such.")
    return int(text)


def _seconds(name: str, value: Value) -> float:
    text, line = text_of(name, value)
    time_ms = duration_ms(text) if text[:1].isdigit() else None
    if not time_ms:
        raise Fault(line, f"`{name}: {text}` is no time.", f"Write `{name}: 30m` or such.")
    if time_ms > _HOURS_MAX * 3_600_000:
        message = f"`{name}: {text}` is longer than a session may be: {_HOURS_MAX} h, which is a week."
        raise Fault(line, message, f"Write `{name}: 2h` or such.")
    return time_ms / 1000


def _micros(name: str, value: Value) -> int:
    text, line = text_of(name, value)
    micros = money_micros(text)
    if not micros or micros > _COST_USD_MAX * MICROS:
        message = f"`{name}: {text}` is no sum above zero and up to ${_COST_USD_MAX:,}."
        raise Fault(line, message, f"Write `{name}: 2.50` or such.")
    return micros


#: The limits as they are written → the field of AgentLimits, and what reads it.
LIMITS: Mapping[str, tuple[str, Callable[[str, Value], int | float]]] = {
    "sessions": ("sessions", count_of),
    "timeout": ("timeout_s", _seconds),
    "idle_timeout": ("idle_timeout_s", _seconds),
    "turns": ("turns", count_of),
    "cost": ("cost_micros", _micros),
}


def _line(value: Value) -> int:
    """Return the line where a value begins; 1 for one that is empty."""
    if isinstance(value, tuple):
        return value[1]
    inner = value if isinstance(value, list) else list(value.values())
    return _line(inner[0]) if inner else 1


def _between_commas(text: str) -> Iterator[str]:
    """Yield the parts of `A, B(c, d)`: a comma in brackets is no end of one."""
    yield from re.findall(r"(?:[^,(]|\([^)]*\))+", text)
