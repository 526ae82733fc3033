"""Pages that are generated are what the code generates."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from orchestrator.plan.findings import Code

PAGES = [("state_machine", "state-machine"), ("findings", "findings"), ("errors", "errors")]
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("script", "page"), PAGES)
def test_a_generated_page_is_what_the_code_says(script: str, page: str) -> None:
    generated = runpy.run_path(str(DOCS / f"{script}.py"))["page"]()
    assert (DOCS / f"{page}.md").read_text(encoding="utf-8") == generated, "run `make docs`"


def test_every_finding_has_its_line_on_the_page() -> None:
    page = (DOCS / "findings.md").read_text(encoding="utf-8")
    assert [code for code in Code if f"| {code.number} | `{code.label}` |" not in page] == []
