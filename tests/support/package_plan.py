"""A plan of ten tasks that really ship a small package, and the model that works on them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.support.messages_api import Block, MessagesApi, Reply, Request, call, done, text

PACKAGE = """---
name: package
workdir: work
---
# Ship a small package

- [ ] **B.1** Write the greeting
- [ ] **B.2** Write the words
- [ ] **B.3** Write a check with the shell
- [ ] **B.4** Mend the greeting
  - depends: B.1
  - verify: `python3 -c "import greet; assert greet.greet() == 'hello'"`
- [ ] **B.5** Insert a word
  - depends: B.2
  - verify: `test "$(sed -n 2p words.py)" = '    \"two\",'`
- [ ] **B.6** List the modules
  - depends: B.4, B.5
  - verify: `test "$(cat modules.txt)" = "$(ls *.py)"`
- [ ] **B.7** Describe them
  - depends: B.4, B.5
  - verify: `grep -q hello about.md && grep -q two about.md`
- [ ] **B.8** Write the version
  - verify: `grep -qx 1.0 version.txt`
- [ ] **B.9** Decide on the licence
- [ ] **B.10** Try all of it
  - depends: B.3, B.6, B.7, B.8, B.9
  - verify: `grep -qx "hello two 1.0" tried.txt`
"""

TRY = "python3 -c 'import greet, words; print(greet.greet(), words.WORDS[0])'"

#: What the model of each task answers, turn by turn; the last turn reports.
PARTS: dict[str, Sequence[Sequence[Block]]] = {
    "B.1": [[call("write_file", path="greet.py", content="def greet():\n    return 'helo'\n")]],
    "B.2": [[call("write_file", path="words.py", content='WORDS = [\n    "three",\n]\n')]],
    "B.3": [
        [call("bash", command="mkdir -p checks && cd checks && export WHO=all")],
        [call("bash", command="cat > check.sh <<'END'\ncat ../version.txt\nEND\necho $WHO > who.txt; pwd")],
    ],
    "B.4": [
        [call("grep", pattern="helo", files="*.py")],
        [call("edit_file", path="greet.py", old="helo", new="hello")],
    ],
    "B.5": [[call("insert_lines", path="words.py", after_line=1, text='    "two",')]],
    "B.6": [[call("glob", pattern="*.py")]],
    "B.7": [[call("read_file", path="greet.py"), call("read_file", path="words.py")]],
    "B.8": [[call("bash", command="cat version.txt || echo none")]],
    "B.9": [[call("notes", action="write", kind="decision", text="The licence is Apache-2.0.")]],
    "B.10": [
        [call("bash", command="cd checks; VERSION=$(sh check.sh); cd ..")],
        [call("bash", command=f"echo $({TRY}) $VERSION > tried.txt")],
    ],
}


def ship(request: Request) -> Reply:
    """Answer as the part of the task says, and go on from what the tools found."""
    key, turn = key_of(request), request.turn
    calls = [*PARTS[key], *_told(key, [str(result["content"]) for result in request.results])]
    return Reply([text(f"Turn {turn}."), *calls[turn]] if turn < len(calls) else [done(f"{key} is done.")])


def key_of(request: Request) -> str:
    """Return the key of the task that a request is about."""
    found = re.match(r"# Task (B\.\d+):", request.task)
    assert found is not None, request.task
    return found[1]


def _told(key: str, results: Sequence[str]) -> list[list[Block]]:
    """Return what follows from results: what was found is written down, what failed its check is mended."""
    if not results or results[0].startswith("Wrote"):
        return []
    content = "\n".join([*results, ""])
    match key:
        case "B.6":
            return [[call("write_file", path="modules.txt", content=content)]]
        case "B.7":
            return [[call("write_file", path="about.md", content=content)]]
        case "B.8":
            version = "1.0\n" if "0.9" in content else "0.9\n"
            return [[call("write_file", path="version.txt", content=version)]]
    return []


def assert_shipped(folder: Path, api: MessagesApi) -> None:
    """The files are there, and each task took as many sessions as it should."""
    assert (folder / "greet.py").read_text() == "def greet():\n    return 'hello'\n"
    assert (folder / "words.py").read_text() == 'WORDS = [\n    "two",\n    "three",\n]\n'
    assert (folder / "checks" / "who.txt").read_text() == "all\n"
    assert (folder / "tried.txt").read_text() == "hello two 1.0\n"
    sessions = Counter(key_of(request) for request in api.requests if request.turn == 0)
    assert sessions == {**dict.fromkeys(PARTS, 1), "B.8": 2}, "the wrong version was found by its check"
    last = next(request for request in api.requests if key_of(request) == "B.10")
    assert "The licence is Apache-2.0." in last.task
