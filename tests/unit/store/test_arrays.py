"""Array literals: what they look like. That the server reads them so is shown by the contract tests."""

from __future__ import annotations

import pytest

from orchestrator.store.arrays import array


@pytest.mark.parametrize(
    ("values", "literal"),
    [
        ([], "{}"),
        ([1, -2, 3], "{1,-2,3}"),
        ([None, 1], "{NULL,1}"),
        ([True, False], "{True,False}"),
        (["done", ""], '{"done",""}'),
        (["NULL", None], '{"NULL",NULL}'),
        (["a,b {c}"], '{"a,b {c}"}'),
        (['say "hi"', "back\\slash"], '{"say \\"hi\\"","back\\\\slash"}'),
    ],
)
def test_a_column_as_a_literal(values: list[str | int | bool | None], literal: str) -> None:
    assert array(values) == literal
