"""The front matter of a Markdown text: YAML between two lines of dashes at its top.

It comes from strangers, so its size is bounded, and so is what YAML makes of it: strings, lists and mappings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import yaml

from orchestrator.errors import Finding
from orchestrator.plan.findings import Code
from orchestrator.plan.slips import slips_in_head

_LINES_MAX = 1000
_CHARS_MAX = 65_536
_BRACKETS_MAX = 200  #: the time that YAML takes grows with the square of their nesting


def read_front_matter(text_lines: Iterable[str]) -> tuple[dict[str, object], int, list[Finding]]:
    """Return its values, the index of the first line after it, and what is wrong with it.

    Args:
        text_lines: those of the text, from its beginning.
    """
    lines = list(islice(text_lines, _LINES_MAX + 1))
    if not lines or lines[0].rstrip() != "---":
        return {}, 0, []
    end = next((index for index, line in enumerate(lines[1:], 1) if line.rstrip() in ("---", "...")), 0)
    if not end:
        return {}, 0, []
    try:
        values = _yaml("\n".join(lines[1:end]))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        message = f"The front matter is no YAML mapping and is ignored ({reason})."
        return {}, end + 1, [Code.FRONT_MATTER.at(1, message, remedy="Write `name: value` lines.")]
    return values, end + 1, list(slips_in_head(lines[:end], values))


def _yaml(text: str) -> dict[str, object]:
    """Scalars stay the strings that were written; anchors are refused, for they can grow without bound."""
    if len(text) > _CHARS_MAX:
        raise ValueError(f"it is longer than {_CHARS_MAX} characters")
    if text.count("[") + text.count("{") > _BRACKETS_MAX:
        raise ValueError(f"it has more than {_BRACKETS_MAX} brackets")
    if any(isinstance(event, yaml.AliasEvent) for event in _events(text)):
        raise ValueError("anchors and aliases are not read")
    values = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506  BaseLoader makes strings and nothing else
    if values is None or values == "":
        return {}
    if not isinstance(values, dict):
        raise ValueError("it is not a mapping")
    return {str(name): value for name, value in values.items()}


def _events(text: str) -> Iterator[object]:
    yield from yaml.parse(text, Loader=yaml.BaseLoader)
