"""What PostgreSQL can store, and which texts are ids."""

from __future__ import annotations

import math

import pytest

from orchestrator.text import id_in, storable, storable_json


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_what_cannot_be_stored_becomes_the_replacement_character_in_its_place(text: str) -> None:
    assert storable(text) == "a\ufffdb"


def test_what_can_be_stored_stays_as_it_is() -> None:
    assert storable("né — \U0001f600\n") == "né — \U0001f600\n"


def test_json_has_no_nan_and_no_nul_in_keys() -> None:
    found = storable_json({"a\0": [math.nan, math.inf, 1.5, ("b\0",)], "c": None})
    assert found == {"a\ufffd": [None, None, 1.5, ["b\ufffd"]], "c": None}


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("17", 17), ("9" * 18, 10**18 - 1)])
def test_digits_are_an_id(text: str, number: int) -> None:
    assert id_in(text) == number


@pytest.mark.parametrize("text", ["", "A.1", "-1", " 1", "²", "٣", "9" * 19])
def test_what_no_bigint_column_holds_is_no_id(text: str) -> None:
    assert id_in(text) is None
