"""Pages that are generated are what the code generates."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_on_states_is_what_the_code_says() -> None:
    generated = runpy.run_path(str(DOCS / "state_machine.py"))["page"]()
    assert (DOCS / "state-machine.md").read_text(encoding="utf-8") == generated, "run `make docs`"
