"""Blocks: what is a box, what is none, and where its state character stands."""

from __future__ import annotations

import pytest

from orchestrator.plan.markdown import Fence, Heading, Item, Text, scan


def _items(text: str) -> list[Item]:
    return [block for block in scan(text).blocks if isinstance(block, Item)]


@pytest.mark.parametrize(
    ("line", "state", "text"),
    [
        ("- [ ] a", " ", "a"),
        ("* [x] a", "x", "a"),
        ("+ [X] a", "X", "a"),
        ("12. [~] a", "~", "a"),
        ("3) [!] a", "!", "a"),
        ("\t- [ ] a", " ", "a"),
        ("> - [x] a", "x", "a"),
        ("- [] a", "", "a"),
        ("- [ ]", " ", ""),
        ("-\u00a0[ ] a", " ", "a"),
        ("        - [ ] far to the right", " ", "far to the right"),
    ],
)
def test_boxes(line: str, state: str, text: str) -> None:
    (item,) = _items(line)
    assert (item.state, item.text) == (state, text)


@pytest.mark.parametrize(
    "line", ["- [ab] a", "- [x](link)", "[ ] a", "- a [ ]", "-[ ] a", "- - [ ] a", "- [x]（a）"]
)
def test_no_boxes(line: str) -> None:
    assert all(item.state is None for item in _items(line))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_offsets_point_at_the_state_character(start: str, end: str) -> None:
    text = start + end.join(["# T", "", "- [x] a", "  1. [~] b", "### [!] Task 2: c", "\t* [X] d"])
    blocks = [block for block in scan(text).blocks if isinstance(block, Item | Heading) and block.state]
    assert [text[block.start + 1] for block in blocks] == ["x", "~", "!", "X"]
    assert [block.line for block in blocks] == [3, 4, 5, 6]


def test_fences_and_comments_hold_no_boxes() -> None:
    text = (
        "- [ ] a\n"
        "```sh\n"
        "- [ ] b\n"
        "~~~\n"
        "````\n"
        "- [ ] c\n"
        "<!--\n"
        "- [ ] d\n"
        "-->\n"
        "~~~\n"
        "```\n"
        "- [ ] e\n"
        "~~~\n"
        "- [ ] f\n"
        "<!-- g -->\n"
        "- [ ] h"
    )
    assert [item.text for item in _items(text)] == ["a", "c", "f", "h"]


def test_only_a_mark_as_long_closes_a_fence_and_code_within_a_line_opens_none() -> None:
    assert [item.text for item in _items("````\n```\n- [ ] a\n````\n- [ ] b")] == ["b"]
    assert [item.text for item in _items("```code``` words\n- [ ] a")] == ["a"]


def test_a_byte_order_mark_before_a_box() -> None:
    text = "\ufeff- [x] a"
    assert [text[item.start + 1] for item in _items(text)] == ["x"]


def test_a_fence_keeps_its_lines_without_the_indent() -> None:
    document = scan("- run:\n  ```sh\n  make\n    all\n  ```\nend")
    fence = document.blocks[1]
    assert isinstance(fence, Fence)
    assert (fence.info, fence.lines, fence.is_closed) == ("sh", ("make", "  all"), True)
    assert isinstance(document.blocks[2], Text)


@pytest.mark.parametrize(
    ("text", "code"), [("a\n```\nb", "unclosed-fence"), ("a\n<!-- b\n- [ ] c", "unclosed-comment")]
)
def test_what_is_never_closed_is_reported_with_its_line(text: str, code: str) -> None:
    (finding,) = scan(text).findings
    assert (finding.code, finding.line) == (code, 2)


def test_headings() -> None:
    text = "# One #\n##  Two ✅\nThree\n===\nFour\n\n---\n**Status**: x\n---\n####### no\n#no"
    headings = [block for block in scan(text).blocks if isinstance(block, Heading)]
    assert [(heading.level, heading.text) for heading in headings] == [(1, "One"), (2, "Two ✅")]
    assert [b.text for b in scan("Title\n===\n").blocks if isinstance(b, Heading)] == ["Title"]


def test_counts_keep_odd_marks_apart() -> None:
    boxes = scan("- [ ] a\n- [] b\n- [x] c\n- [X] d\n- [~] e\n- [P] f\n- [P] g").checkboxes
    assert (boxes.open, boxes.done, dict(boxes.other)) == (2, 2, {"~": 1, "P": 2})


def test_front_matter_keeps_scalars_as_written() -> None:
    document = scan(
        "---\n# a comment first\nname: demo\nversion: 1.0\nday: 2025-11-28\nyes: no\n---\n- [ ] a"
    )
    assert document.meta == {"name": "demo", "version": "1.0", "day": "2025-11-28", "yes": "no"}
    assert document.blocks[0].line == 8


@pytest.mark.parametrize("yaml", ["a: [", "- a", "a: &x 1\nb: *x", "a: " + "[" * 300, "a: b: c"])
def test_bad_front_matter_is_a_warning(yaml: str) -> None:
    document = scan(f"---\n{yaml}\n---\n- [ ] a")
    assert [finding.code for finding in document.findings] == ["front-matter"]
    assert document.meta == {}
    assert len(document.blocks) == 1
