"""What the command line says of answers."""

from __future__ import annotations

import pytest

from orchestrator.cli.text import answer_text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"state": "cancelled", "cancelling": 2}, "cancelled, 2 cancelling"),
        ({"is_paused": True, "live": 0}, "paused, 0 live"),
        ({"is_paused": False, "live": 1}, "not paused, 1 live"),
        ({"reopened": 1, "flagged": []}, "1 reopened"),
        ({"reopened": 1, "flagged": ["A.2", "A.3"]}, "1 reopened, flagged A.2, A.3"),
    ],
)
def test_answers_read_as_words(answer: dict[str, object], text: str) -> None:
    assert answer_text(answer) == text
