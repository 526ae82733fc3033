"""The grammar of ids."""

from __future__ import annotations

import pytest

from orchestrator.plan.keys import (
    alias_of,
    find_key,
    free_key,
    hidden,
    id_of,
    is_section_key,
    slug,
    split_hidden_key,
    split_number,
)


@pytest.mark.parametrize(
    ("text", "key", "rest"),
    [
        ("A.9.1 Do", "A.9.1", "Do"),
        ("**A.9.1.3** Do", "A.9.1.3", "Do"),
        ("AK.2.10: Do", "AK.2.10", "Do"),
        ("A.1.1.1.1 Do", "A.1.1.1.1", "Do"),
        ("**P1-T03:** Do it", "P1-T03", "Do it"),
        ("E001-T001 Do", "E001-T001", "Do"),
        ("`T001.010` – Do", "T001.010", "Do"),
        ("T001.010.a Do", "T001.010.a", "Do"),
        ("F001.2) Do", "F001.2", "Do"),
        ("TASK-X-1007: Do", "TASK-X-1007", "Do"),
        ("BACK-24.02 Do", "BACK-24.02", "Do"),
        ("T014 [P] Do", "T014", "[P] Do"),
        ("~~T-000.1~~ Do", "T-000.1", "Do"),
        ("3.7 Do", "3.7", "Do"),
        ("Task 1.9: Do", "1.9", "Do"),
        ("**Sub-task 1.9.2** — Do", "1.9.2", "Do"),
        ("Task 2: Do", "2", "Do"),
        ("Track B.3.4.2 Do", "B.3.4.2", "Do"),
        ("✅ **A.1.1** Do", "A.1.1", "Do"),
        ("A.1.1 **Bold** words", "A.1.1", "**Bold** words"),
    ],
)
def test_ids(text: str, key: str, rest: str) -> None:
    found = find_key(text)
    assert found is not None
    assert (found.key, found.rest) == (key, rest)


@pytest.mark.parametrize(
    "text",
    [
        "a.9.1 x",
        "P0 x",
        "P95 latency",
        "S3 bucket",
        "50+ types",
        "SPRINT-1-FOO.md",
        "Week 3",
        "2 x",
        "1.5h",
        "A x",
        "v1.2 x",
        "T071-A.4 x",
        "T074-T071 x",
        "Phase 3.1: x",
        "U.S. x",
        "#1 x",
    ],
)
def test_no_ids(text: str) -> None:
    assert find_key(text) is None


def test_names_of_standards_have_the_form_and_are_no_keys() -> None:
    found = find_key("SHA-256 hashing")
    assert found is not None
    assert found.is_standard


def test_only_the_word_task_makes_a_heading_a_task() -> None:
    assert [
        found.has_word for text in ("Task 1.1 x", "Track A.1 x", "1.1 x") if (found := find_key(text))
    ] == [True, False, False]


def test_sections_of_tracks() -> None:
    assert [key for key in ("A.9", "AB.1", "A.9.1", "3.7", "F001.2") if is_section_key(key)] == [
        "A.9",
        "AB.1",
    ]


@pytest.mark.parametrize(
    ("title", "alias"),
    [
        ("Phase 0: Start", "phase 0"),
        ("Week 12 - End", "week 12"),
        ("Phase A — x", "phase a"),
        ("Track A: x", "track a"),
        ("Phase Alpha", ""),
        ("Phases 1-3", ""),
        ("The phase 1", ""),
    ],
)
def test_aliases(title: str, alias: str) -> None:
    assert alias_of(title) == alias


def test_numbers_for_ranges() -> None:
    assert [split_number(key) for key in ("T001.010", "4.10", "P1-T03", "A.1.a", "")] == [
        ("T001.", 10),
        ("4.", 10),
        ("P1-T", 3),
        None,
        None,
    ]


def test_slugs_are_words_of_any_language() -> None:
    assert slug("**Set up** the `api`!") == "set-up-the-api"
    assert slug("日本語 テスト") == "日本語-テスト"
    assert slug("🎉") == ""
    assert len(slug("word " * 50)) <= 48


def test_hidden_keys_stand_at_the_end_of_a_line() -> None:
    assert split_hidden_key(f"Build it {hidden('a b>c')}") == ("Build it", "a b>c")
    assert split_hidden_key("Build it <!-- id: a --> now") == ("Build it <!-- id: a --> now", "")


def test_a_number_behind_an_id_is_no_part_of_it() -> None:
    counts: dict[str, int] = {}
    assert [free_key("A.1", used, counts) for used in ((), ("A.1",), ("A.1", "A.1~2"))] == [
        "A.1",
        "A.1~2",
        "A.1~3",
    ]
    assert [id_of(key) for key in ("A.1~2", "A.1", "a~b", "1.1~12")] == ["A.1", "A.1", "a~b", "1.1"]
