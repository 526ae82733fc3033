"""What real Markdown plans get wrong or do in their own way, each on a text of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.core.words import TaskKind
from orchestrator.plan.model import Mark, Plan
from orchestrator.plan.read import read_path, read_plan
from orchestrator.plan.render import write_marks


def _leaves(plan: Plan) -> list[tuple[str, str]]:
    return [(task.key, task.title) for task in plan.tasks if task.kind is TaskKind.LEAF]


def _codes(plan: Plan) -> list[tuple[int, str]]:
    return [(finding.line, finding.code) for finding in plan.findings]


def test_a_legend_of_real_boxes_is_counted_and_yields_no_tasks() -> None:
    plan = read_plan(
        "#### Task 1.1: Go\n- [ ] step\n\n**Legend:**\n- [ ] open\n- [x] done\n- [~] at it\n- [!] stuck\n"
    )
    assert _leaves(plan) == [("1.1", "Go")]
    assert (plan.checkboxes.open, plan.checkboxes.done, plan.checkboxes.other) == (2, 1, {"~": 1, "!": 1})


def test_stated_totals_and_remarks_on_remaining_tasks_are_text() -> None:
    plan = read_plan(
        "**Total Tasks:** 186\n\n| Phase | Tasks |\n|---|---|\n| Phase 0 | 252 |\n\n"
        "- [ ] A.1 a\n\n*Continue with the rest*\n"
    )
    assert _leaves(plan) == [("A.1", "a")]
    assert plan.errors == ()


def test_front_matter_that_begins_with_a_comment_and_contradicts_the_boxes_is_a_hint() -> None:
    plan = read_plan(
        '---\n# wanted by the standard\nproject: "X"\ncompleted_tasks: 0\nstatus: "complete"\n---\n'
        "- [x] a\n- [ ] b\n"
    )
    assert [task.mark for task in plan.tasks] == [Mark.DONE, Mark.OPEN]
    assert plan.meta["completed_tasks"] == "0"
    assert plan.errors == ()


def test_numbers_that_restart_in_every_part_are_named_with_both_lines() -> None:
    plan = read_plan("## Part 1\n- [ ] 1.1 a\n## Part 2\n- [ ] 1.1 b\n")
    assert _codes(plan) == [(4, "duplicate-id")]
    assert "line 2" in plan.findings[0].message
    assert [task.key for task in plan.tasks if task.has_own_key] == ["1.1", "1.1~2"]


def test_file_names_that_look_like_ids_are_words() -> None:
    plan = read_plan("- [ ] SPRINT-1-LAUNCH-PLAN.md write it\n- [ ] `SHA-256` sums\n")
    assert [task.has_own_key for task in plan.tasks] == [False, False]


def test_numbered_lines_in_bold_are_tasks_where_there_is_no_box() -> None:
    text = (
        "## Week 1\n1. **Set up the cluster** (4h)\n   - agent: devops-engineer\n2. **Test it**\n\n"
        "**Success Criteria:**\n- [ ] it runs\n"
    )
    plan = read_plan(text)
    assert _leaves(plan) == [("set-up-the-cluster", "Set up the cluster"), ("test-it", "Test it")]
    assert plan.tasks[1].agent == "devops-engineer"
    assert plan.tasks[0].acceptance == ("it runs",)
    assert _codes(plan) == [(2, "numbered-tasks")]
    assert _leaves(read_plan(f"- [ ] a box\n{text}")) == [("a-box", "a box")]


def test_bullets_with_an_emoji_are_text_unless_they_have_an_id() -> None:
    plan = read_plan("- ✅ Schema\n- [ ] A.1 a\n- ✅ **A.2** b\n- 🔄 A.3 c\n- A.4 d ✅\n- A.5 e\n")
    assert [(task.key, task.title, task.mark.value) for task in plan.tasks] == [
        ("A.1", "a", "open"),
        ("A.2", "b", "done"),
        ("A.3", "c", "in_progress"),
        ("A.4", "d", "done"),
    ]


def test_a_range_on_one_box_is_one_task_under_all_its_ids() -> None:
    plan = read_plan(
        "- [x] T071-T074 Migrate **MERGED**\n- [ ] T075 Check (depends on T072)\n- [ ] A.1-A.3 see there\n"
    )
    assert _leaves(plan)[0] == ("T071-T074", "Migrate MERGED")
    assert [(edge.task, edge.on) for edge in plan.dependencies] == [("T075", "T071-T074")]
    assert _codes(plan) == [(1, "shared-box"), (3, "shared-box")]


def test_glyphs_of_other_tools_letters_with_numbers_and_effort_in_italics() -> None:
    plan = read_plan("- [⊘] V10.1 Wait for upstream. *Effort: 1.5h.*\n- [—] V10.2 Not now\n")
    assert [(task.key, task.title, task.mark) for task in plan.tasks] == [
        ("V10.1", "Wait for upstream.", Mark.BLOCKED),
        ("V10.2", "Not now", Mark.DEFERRED),
    ]
    assert plan.tasks[0].estimate_ms == 90 * 60_000


def test_a_struck_title_with_another_verdict_and_a_colour_for_the_difficulty() -> None:
    plan = read_plan("- [x] ~~Split the file~~ → **KEEP** 🟡\n- [ ] **gpu.rs** 🟢 small\n")
    assert [(task.title, task.mark) for task in plan.tasks] == [
        ("Split the file → KEEP", Mark.DONE),
        ("gpu.rs 🟢 small", Mark.OPEN),
    ]


def test_legend_bullets_and_headings_that_show_the_notation_are_no_tasks() -> None:
    plan = read_plan(
        "## Format: `- [ ] [ID] [P?] Description`\n- **[P]**: side by side\n- [P] the same\n"
        "## Work\n- [ ] T001 a\n"
    )
    assert _leaves(plan) == [("T001", "a")]


def test_a_box_in_a_heading_is_its_mark() -> None:
    plan = read_plan("### [ ] Task 2: Log\nWords.\n### [x] Task 3: Ship\n")
    assert [(task.key, task.mark) for task in plan.tasks] == [("2", Mark.OPEN), ("3", Mark.DONE)]


def test_ids_with_zeros_beside_other_ids() -> None:
    assert [key for key, _ in _leaves(read_plan("- [ ] T-000 a\n- [ ] T-000.1 b\n- [ ] T046 c\n"))] == [
        "T-000",
        "T-000.1",
        "T046",
    ]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_other_line_ends_mixed_and_a_missing_last_one(end: str) -> None:
    plan = read_plan(f"## S{end}- [ ] a{end}  - run: make{end}```{end}- [ ] no{end}```{end}- [X] b\n- [x] c")
    assert [(task.title, task.line) for task in plan.tasks] == [("S", 1), ("a", 2), ("b", 7), ("c", 8)]
    assert plan.tasks[1].run == ("make",)
    assert plan.checkboxes.done == 2


@pytest.mark.parametrize(("byte", "character"), [(b"\x92", "’"), (b"\xa0", "\u00a0"), (b"\xe9", "é")])
def test_stray_bytes_are_read_as_windows_1252_and_reported(
    byte: bytes, character: str, tmp_path: Path
) -> None:
    path = tmp_path / "plan.md"
    path.write_bytes("- [ ] ✅ a\n- [ ] it".encode() + byte + b"s\n- [ ] x" + byte + b"y\n")
    plan = read_path(path)
    assert [task.title for task in plan.tasks] == ["✅ a", f"it{character}s", f"x{character}y"]
    assert _codes(plan) == [(2, "stray-bytes")]
    assert plan.findings[0].message == f"2 bytes are no UTF-8 (0x{byte.hex()}) and read as Windows-1252."


def test_replacement_characters_and_letters_read_in_a_wrong_alphabet_are_words() -> None:
    plan = read_plan("- [ ] A.1 don\ufffdt\n- [ ] A.2 βœ… done\n")
    assert [task.title for task in plan.tasks] == ["don\ufffdt", "βœ… done"]
    assert plan.findings == ()


def test_boxes_below_a_fence_that_is_never_closed_are_inside_it() -> None:
    plan = read_plan("- [ ] a\n```\n- [ ] b\n")
    assert (_leaves(plan), _codes(plan)) == ([("a", "a")], [(2, "unclosed-fence")])


def test_a_box_without_a_blank_behind_it_is_reported() -> None:
    plan = read_plan("- [ ] a\n- [x]（Plan#6）b\n- [ ]c\n- [x](link.md) d\n")
    assert (_leaves(plan), _codes(plan)) == ([("a", "a")], [(2, "almost-box")])
    assert plan.findings[0].message.startswith("2 boxes")


def test_empty_brackets_and_open_children_below_ticked_parents() -> None:
    plan = read_plan("- [x] a\n    - [] b\n        - [x] c\n            - [ ] d\n                - [ ] e\n")
    assert [task.parent for task in plan.tasks] == ["", "a", "b", "c", "d"]
    assert _codes(plan) == [(1, "done-parent-open-child"), (3, "done-parent-open-child")]


def test_tabs_among_blanks_a_byte_order_mark_and_blanks_that_do_not_break() -> None:
    plan = read_plan("\ufeff- [ ] a\n\t- [ ] b\n\t  - [\u00a0]\u00a0c\n    -\u00a0[x] d\n")
    assert [(task.title, task.parent, task.mark.value) for task in plan.tasks] == [
        ("a", "", "open"),
        ("b", "a", "open"),
        ("c", "b", "open"),
        ("d", "a", "done"),
    ]


def test_ordered_lists_other_bullets_and_boxes_in_comments() -> None:
    plan = read_plan("1. [x] a\n2) [ ] b\n* [ ] c\n+ [ ] d\n<!-- - [ ] e -->\n<!--\n- [ ] f\n-->\n")
    assert [title for _, title in _leaves(plan)] == ["a", "b", "c", "d"]


def test_criteria_in_progress_are_no_tasks() -> None:
    plan = read_plan("## Acceptance Criteria\n- [~] fast\n## Work\n- [ ] a\n")
    assert (_leaves(plan), plan.checkboxes.other) == ([("a", "a")], {"~": 1})


def test_copies_of_a_plan_in_its_folder_are_left_out(tmp_path: Path) -> None:
    for name in ("plan.md", "MEMORY/plan.md", ".hidden copy/plan.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("- [ ] A.1 a\n")
    plan = read_path(tmp_path)
    assert (_leaves(plan), _codes(plan)) == ([("A.1", "a")], [(0, "copied-file")])


def test_ids_that_the_standard_of_tracks_does_not_have_are_kept_and_reported() -> None:
    plan = read_plan("- [ ] AK.2.1 a\n- [ ] A.1.1.1.1 b\n- [ ] A.0.1 c\n- [ ] a.1.2 d\n")
    assert [task.key for task in plan.tasks if task.has_own_key] == ["AK.2.1", "A.1.1.1.1", "A.0.1"]
    assert _codes(plan) == [(2, "odd-id"), (3, "odd-id")]


def test_files_of_tracks_are_one_plan_in_which_each_track_is_a_container(tmp_path: Path) -> None:
    (tmp_path / "TRACK-A.md").write_text(
        "---\ntrack: A\nagent: senior-architect\nprogress: 40%\n---\n- [ ] A.1.1 a\n"
    )
    (tmp_path / "TRACK-B.md").write_text(
        "---\ntrack: B\ntitle: The screens\n---\n"
        "# Track B: Screens\n## B.1 x\n- [ ] B.1.1 b\n  - depends: Track A\n"
    )
    plan = read_path(tmp_path)
    assert [(task.key, task.parent, task.source) for task in plan.tasks] == [
        ("track-a", "", "TRACK-A.md"),
        ("A.1.1", "track-a", "TRACK-A.md"),
        ("track-b", "", "TRACK-B.md"),
        ("B.1", "track-b", "TRACK-B.md"),
        ("B.1.1", "B.1", "TRACK-B.md"),
    ]
    assert plan.tasks[1].agent == "senior-architect"
    assert [(edge.task, edge.on) for edge in plan.dependencies] == [("B.1.1", "track-a")]


def test_ids_of_another_plan_that_a_checklist_repeats_are_kept_apart() -> None:
    plan = read_plan(
        "## Access\n- [ ] C.1 Review\n- [ ] C.2 Log (after C.1)\n## Change\n- [ ] C.1 Approve\n"
        "## Risk\n- [ ] C.1 Assess\n- [ ] A.1-A.3 Train (after C.1)\n"
    )
    assert [task.key for task in plan.tasks if task.has_own_key] == [
        "C.1",
        "C.2",
        "C.1~2",
        "C.1~3",
        "A.1-A.3",
    ]
    assert _codes(plan) == [(5, "duplicate-id"), (7, "duplicate-id"), (8, "shared-box")]
    assert {(edge.task, edge.on) for edge in plan.dependencies} == {("C.2", "C.1"), ("A.1-A.3", "C.1~3")}


def test_line_ends_of_both_kinds_in_one_file() -> None:
    text = "## S\r\n- [ ] a\n  - run: make\r\n- [X] b\n\r\n- [ ] c"
    plan = read_plan(text)
    assert [(task.title, task.line) for task in plan.tasks] == [("S", 1), ("a", 2), ("b", 4), ("c", 6)]
    assert plan.tasks[1].run == ("make",)
    spans = {task.title: task.span for task in plan.tasks if task.span}
    assert write_marks(text, {spans["c"]: Mark.DONE}) == text.replace("[ ] c", "[x] c")


def test_chains_of_ranges_brackets_and_a_section_that_say_not_quite_the_same() -> None:
    plan = read_plan(
        "## Work\n- [ ] T001 a\n- [ ] T002 b\n- [ ] T003 c (depends on T001)\n- [ ] T004 d\n\n"
        "## Dependencies\n- T003-T004 depend on T002\n\n"
        "### Critical path\n```\nT001-T002 → T004 → release\n```\n",
        format="coditect",
    )
    assert {(edge.task, edge.on) for edge in plan.dependencies} == {
        ("T003", "T001"),
        ("T003", "T002"),
        ("T004", "T001"),
        ("T004", "T002"),
    }
    assert all(edge.is_explicit for edge in plan.dependencies)


def test_an_item_of_many_lines_is_one_task_with_a_body() -> None:
    lines = [f"  Line {number}, with `code` and → arrows" for number in range(20)]
    plan = read_plan("\n".join(["- [ ] **Do it** 🔴", *lines, "- [ ] next"]))
    assert [task.title for task in plan.tasks] == ["Do it 🔴", "next"]
    assert all(line.strip() in plan.tasks[0].body for line in lines)


def test_a_closed_issue_that_an_open_one_still_blocks_is_reported() -> None:
    issue = '{{"id": "s-{}", "title": "t", "status": "{}"{}}}\n'
    link = ', "dependencies": [{"issue_id": "s-2", "depends_on_id": "s-1", "type": "blocks"}]'
    plan = read_plan(issue.format(1, "open", "") + issue.format(2, "closed", link))
    assert _codes(plan) == [(2, "done-too-early")]
