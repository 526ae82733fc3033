"""Array literals: what they look like. That the server reads them so is shown by the contract tests."""

from __future__ import annotations

import pytest

from orchestrator.core.words import TaskState
from orchestrator.store.arrays import array, words


@pytest.mark.parametrize(
    ("values", "literal"),
    [([], "{}"), ([1, -2, 3], "{1,-2,3}"), ([None, 1], "{NULL,1}"), ([True, False], "{True,False}")],
)
def test_a_column_of_numbers_as_a_literal(values: list[int | bool | None], literal: str) -> None:
    assert array(values) == literal


@pytest.mark.parametrize(
    ("values", "literal"),
    [
        ([], "{}"),
        ([""], '{""}'),
        (["done", ""], '{"done",""}'),
        (["NULL", None], '{"NULL",NULL}'),
        (["a,b {c}"], '{"a,b {c}"}'),
        (['say "hi"', "back\\slash"], '{"say \\"hi\\"","back\\\\slash"}'),
        (['"', None, "\\"], '{"\\"",NULL,"\\\\"}'),
        (["a\x1fb", 'c"'], '{"a\x1fb","c\\""}'),
        ([TaskState.DONE, TaskState.READY], '{"done","ready"}'),
    ],
)
def test_a_column_of_words_as_a_literal(values: list[str | None], literal: str) -> None:
    assert words(values) == literal
