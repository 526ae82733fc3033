"""The files of a workspace: by line, by pattern, and never outside of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.sessions.tools.files import Files, ToolRefused


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "pkg" / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / ".git" / "config.py").write_text("")
    (folder / "pkg" / "one.py").write_text("1\n2\n3\n")
    (folder / "pkg" / "deep" / "two.py").write_text("two")
    (tmp_path / "secret.py").write_text("hidden")
    (folder / "out").symlink_to(tmp_path)
    (folder / "pkg" / "leak.py").symlink_to(tmp_path / "secret.py")
    return folder


def view(files: Files, name: str, *, first_line: int = 1, lines_max: int = 2_000) -> str:
    return files.view(name, first_line=first_line, lines_max=lines_max)


def test_lines_are_numbered_and_chosen(root: Path) -> None:
    files = Files(root)
    assert view(files, "pkg/one.py") == "1\t1\n2\t2\n3\t3"
    assert view(files, "pkg/one.py", first_line=2, lines_max=1) == "2\t2"
    assert view(files, "pkg/one.py", first_line=9) == "pkg/one.py has 3 lines."
    assert view(files, ".") == ".git/\nout/\npkg/"


@pytest.mark.parametrize(
    ("after_line", "text", "expected"),
    [
        (0, "0", "0\n1\n2\n3\n"),
        (2, "2½\n", "1\n2\n2½\n3\n"),
        (3, "4\n5", "1\n2\n3\n4\n5\n"),
    ],
)
def test_lines_are_inserted(root: Path, after_line: int, text: str, expected: str) -> None:
    Files(root).insert("pkg/one.py", after_line=after_line, text=text)
    assert (root / "pkg/one.py").read_text() == expected


def test_a_last_line_without_end_gets_one_before_an_insert(root: Path) -> None:
    files = Files(root)
    files.insert("pkg/deep/two.py", after_line=1, text="three")
    assert (root / "pkg/deep/two.py").read_text() == "two\nthree\n"
    with pytest.raises(ToolRefused, match="has 2 lines, so nothing can come after line 7"):
        files.insert("pkg/deep/two.py", after_line=7, text="x")


def test_a_text_is_replaced_only_where_it_is_alone(root: Path) -> None:
    files = Files(root)
    files.write("crlf.txt", "a\r\nb\r\n")
    files.replace("crlf.txt", old="b", new="c")
    assert (root / "crlf.txt").read_bytes() == b"a\r\nc\r\n"
    files.write("twice.txt", "x x")
    with pytest.raises(ToolRefused, match="occurs 2 times"):
        files.replace("twice.txt", old="x", new="y")


def test_patterns_find_files_inside_and_pass_over_the_unsearched(root: Path) -> None:
    files = Files(root)
    assert files.find("**/*.py") == "pkg/deep/two.py\npkg/one.py"
    assert files.find("pkg/*.py") == "pkg/one.py"
    assert files.find("out/*") == "No file matches."
    assert files.find("*.nothing") == "No file matches."
    for number in range(1_005):
        (root / f"{number:04}.many").write_text("")
    assert files.find("*.many").endswith("0999.many\n[... 5 more; use a narrower pattern ...]")


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "pkg/../../*", "**.py/**x", ""])
def test_patterns_that_lead_out_or_mean_nothing_are_refused(root: Path, pattern: str) -> None:
    with pytest.raises(ToolRefused):
        Files(root).find(pattern)


@pytest.mark.parametrize("name", ["../secret.py", "/etc/passwd", "out/secret.py", "pkg/leak.py"])
def test_nothing_outside_is_read_or_written(root: Path, name: str) -> None:
    files = Files(root)
    with pytest.raises(ToolRefused, match="outside of the workspace"):
        view(files, name)
    with pytest.raises(ToolRefused, match="outside of the workspace"):
        files.write(name, "mine")
    assert (root.parent / "secret.py").read_text() == "hidden"


def test_what_is_no_text_file_is_refused(root: Path) -> None:
    files = Files(root)
    (root / "big").write_text("x" * 1_000_001)
    with pytest.raises(ToolRefused, match="larger than 1,000,000 bytes"):
        view(files, "big")
    with pytest.raises(ToolRefused, match="pkg is not a regular file"):
        files.write("pkg", "x")
    with pytest.raises(ToolRefused, match="absent does not exist"):
        view(files, "absent")
