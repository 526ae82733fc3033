"""Write docs/errors.md from the error table that the tests run, tests/support/error_table.py: `make docs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.error_table import ATTEMPTS_MAX, FATES, ROWS, Fate, Row

PAGE = Path(__file__).with_name("errors.md")

_INTRODUCTION = f"""\
# When a session fails

Generated from `tests/support/error_table.py` by `make docs`: `tests/integration/test_error_table.py` has real
sessions of each backend meet every row, and asks the core what follows.

What becomes of the task depends on the class of the failure alone. Here each task has {ATTEMPTS_MAX}
attempts, the back-off is that of the settings without jitter, and every attempt ends in the same way. A task
that is stopped by a budget of its tenant or of the day is not held: it waits for that budget.

| class | counts against the task | next attempt | in the end |
| --- | --- | --- | --- |
"""

_SECTIONS = {
    "messages": (
        "Sessions of `anthropic` and `claude-code`",
        """\
Every request waits for leave of the governor of its key. A 429 or 529 makes all sessions of the key wait, for
as long as the provider says; that counts against no timeout, and a session that has waited for
`governor.wait_max_s` in all makes room for others. *Again* says that the same request is sent again in the
same session; if it goes well then, nothing has happened. (Claude Code asks some other things again by rules
of its own; what is said is the same.)""",
    ),
    "chat": (
        "Sessions of `openai`",
        "The same, in the words of chat completions. What went wrong is told by a code or the status.",
    ),
    "command": ("Lines of the plan", "Of `run:` and `verify:`, in a shell."),
    "simulated": ("Sessions that are pretended", "Of `simulate:`; what they say is labelled."),
}


def page() -> str:
    """Return the whole page."""
    fates = "".join(_fate(name.value, fate) for name, fate in FATES.items())
    return "\n".join([_INTRODUCTION + fates, *(_section(name, rows) for name, rows in ROWS.items())])


def _fate(name: str, fate: Fate) -> str:
    again = "none" if fate.again_ms is None else f"after {fate.again_ms / 1000:g} s, then later each time"
    count = "1 attempt" if fate.attempts == 1 else f"{fate.attempts} attempts"
    end = f"{fate.end} after {count}" if fate.end else "tried until it passes"
    return f"| `{name}` | {'yes' if fate.is_charged else 'no'} | {again} | {end} |\n"


def _section(name: str, rows: Mapping[str, Row]) -> str:
    title, words = _SECTIONS[name]
    head = ["| | what happens | class | said | again |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([f"## {title}", "", words, "", *head, *_lines(rows), ""])


def _lines(rows: Mapping[str, Row]) -> Iterator[str]:
    for name, row in rows.items():
        only = f" (only `{row.backends[0]}`)" if name == "context window" else ""
        again = "yes" if row.is_asked_again else "no"
        yield f"| {name} | {row.does}{only} | `{row.failure_class.value}` | {_said(row.words)} | {again} |"


def _said(words: str) -> str:
    """Return in plain words what a regular expression finds."""
    return words.replace("\\", "").replace(".*", " … ").replace("|", ", or ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
