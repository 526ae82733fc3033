"""Write docs/findings.md from the table of orchestrator/plan/findings.py: `make docs`."""

from __future__ import annotations

from pathlib import Path

from orchestrator.plan.findings import Code

PAGE = Path(__file__).with_name("findings.md")

_INTRODUCTION = """\
# Findings

What can be found in a plan. Generated from `orchestrator/plan/findings.py` by `make docs`; a test compares it
with the code. `orchestrator lint PLAN` tells the findings of a plan, each with its line and the remedy:

    plan.md:4: error: A.1 depends on A.7, and no task has that id. Correct the id or add the task. \
[P501 unknown-dependency]

An *error* refuses the plan, and nothing of it is stored. With a *warning* it runs, as the finding says. A
number never changes its meaning.
"""

#: What a hundred of the numbers is about.
_SECTIONS = {
    "P1": "The text",
    "P2": "Its tasks",
    "P3": "Their states",
    "P4": "Their fields",
    "P5": "Dependencies",
    "P6": "Who runs them",
}


def page() -> str:
    """Return the whole page."""
    return "\n".join([_INTRODUCTION, *map(_section, _SECTIONS)])


def _section(hundred: str) -> str:
    rows = [
        f"| {code.number} | `{code.label}` | {code.severity} | {code.meaning} |"
        for code in sorted(Code, key=lambda code: code.number)
        if code.number.startswith(hundred)
    ]
    head = [
        f"## {_SECTIONS[hundred]}",
        "",
        "| number | code | severity | what was found |",
        "| --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *rows, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
