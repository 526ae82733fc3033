"""JSON that remembers where its values stand reads what the standard library reads, and refuses the rest."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan.json_text import DEPTH_MAX, JsonObject, LineNumbers, read_json

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda below: st.lists(below) | st.dictionaries(texts, below),
    max_leaves=20,
)


def _objects(value: object) -> list[JsonObject]:
    below = value.values() if isinstance(value, JsonObject) else value if isinstance(value, list) else ()
    own = [value] if isinstance(value, JsonObject) else []
    return own + [found for each in below for found in _objects(each)]


@given(value=values, indent=st.none() | st.integers(min_value=0, max_value=4), is_ascii=st.booleans())
def test_what_is_written_is_what_is_read(value: object, indent: int | None, is_ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=is_ascii)
    found = read_json(text)
    assert found == value
    for each in _objects(found):
        assert text[each.start] == "{"
        for name, below in each.items():
            start, end = each.spans[name]
            quote = '"' if isinstance(below, str) else ""
            assert json.loads(f"{quote}{text[start:end]}{quote}") == below


def test_where_values_stand() -> None:
    text = '\ufeff{"a" : "b\\n",\r\n "c": [{"d": "e"}], "f": 29.10, "a": "last"}'
    found = read_json(text)
    assert isinstance(found, JsonObject)
    assert {name: text[slice(*span)] for name, span in found.spans.items()} == {
        "a": "last",
        "c": '[{"d": "e"}]',
        "f": "29.10",
    }
    assert found["f"] == Decimal("29.10")
    assert str(found["f"]) == "29.10"
    (inner,) = _objects(found)[1:]
    assert LineNumbers(text).of(inner.start) == 2


def test_lines() -> None:
    text = "a\nb\r\nc\rd"
    assert [LineNumbers(text).of(text.index(letter)) for letter in "abcd"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "value is missing"),
        ("{", 1, "string is missing"),
        ('{"a" 1}', 1, "colon"),
        ('{"a": 1 "b"}', 1, "comma or } is"),
        ("[1 2]", 1, "comma or ] is"),
        ("[1,\n]", 2, "value is missing"),
        ("{} x", 1, "follows its end"),
        ('"a\nb"', 1, "end in its line"),
        ('\n"\\x"', 2, "escape"),
        ("NaN", 1, "value is missing"),
        ("[" * (DEPTH_MAX + 2), 1, "nested deeper"),
        ('{"a":' * 100_000, 1, "nested deeper"),
    ],
)
def test_what_is_refused(text: str, line: int, words: str) -> None:
    with pytest.raises(json.JSONDecodeError, match=words) as caught:
        read_json(text)
    assert caught.value.lineno == line


def test_what_no_database_stores_is_replaced() -> None:
    assert read_json('["\\u0000", "\\ud800", "\\ud83c\\udf89"]') == ["\ufffd", "\ufffd", "🎉"]
