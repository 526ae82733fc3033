"""One shell for all commands of a session, with real processes: what stays, and what is lost and said."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orchestrator.sessions.output import Excerpt
from orchestrator.sessions.programs import Programs
from orchestrator.sessions.tools.persistent_shell import PersistentShell, Ran
from orchestrator.workspace import tree
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.sessions import BASE, Recorder, assignment, workspace

WELL = Ran(0, has_ended_shell=False, is_new_shell=False)


class Bench:
    """A shell, and what it printed."""

    def __init__(self, folder: Path, *, path: str | None = None, **limits: int) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self.records = folder / "records"
        self.transcript = Recorder()
        self.touched = 0
        self.workspace = workspace(self.folder)
        if path is not None:
            self.workspace.env["PATH"] = path
        self.shell = PersistentShell(
            Programs(
                launcher=ProcessLauncher(records=self.records),
                workspace=self.workspace,
                assignment=assignment(limits=limits),
                transcript=self.transcript,
                touch=self.touch,
            )
        )

    def touch(self) -> None:
        self.touched += 1

    async def run(self, line: str, *, timeout_s: float = 60.0) -> tuple[Ran, str]:
        excerpt = Excerpt(head_max=5_000, tail_max=5_000)
        ran = await self.shell.run(line, excerpt=excerpt, timeout_s=timeout_s)
        return ran, excerpt.text

    def is_all_gone(self) -> bool:
        return tree.confirm_gone(self.records, BASE.token)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what other processes do."""
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110 - no event of ours tells of it
            await asyncio.sleep(0.02)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    found = Bench(tmp_path)
    yield found
    await found.shell.close()
    assert found.is_all_gone()


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Bench]:
    """A machine that has `sh` and no bash."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "sleep", "cat"):
        (programs / name).symlink_to(f"/bin/{name}")
    found = Bench(tmp_path, path=str(programs))
    yield found
    await found.shell.close()


async def test_folder_variables_functions_and_background_stay(bench: Bench) -> None:
    assert await bench.run("mkdir sub; cd sub; export A='b c'; greet() { echo \"hello $1\"; }") == (WELL, "")
    assert await bench.run('greet you; echo "$A"; pwd') == (WELL, f"hello you\nb c\n{bench.folder}/sub\n")
    assert (await bench.run("sleep 300 & echo $! > pid"))[0] == WELL
    assert (await bench.run('kill -0 "$(cat pid)"'))[0] == WELL
    assert bench.transcript.text("stdout") == f"hello you\nb c\n{bench.folder}/sub\n"
    assert bench.touched


@pytest.mark.parametrize(
    ("line", "code", "output"),
    [
        ("false", 1, ""),
        ("(exit 41)", 41, ""),
        ("printf 'no end of line'", 0, "no end of line"),
        ("echo out; echo err >&2", 0, None),
        ("cat", 0, ""),
        ("cat <<'END'\n$HOME `x` \"quoted\" 'single'\nEND\n", 0, "$HOME `x` \"quoted\" 'single'\n"),
        ("echo one\necho two", 0, "one\ntwo\n"),
        ("echo $((", None, None),
        ("echo 'open", None, None),
        ("no-such-program", 127, None),
        ("printf '\\036 not a mark\\n'", 0, "\x1e not a mark\n"),
        ("printf 'ends in \\036'", 0, "ends in \x1e"),
        ("printf '\\377\\376'; echo ä", 0, "\ufffd\ufffdä\n"),
        ("set -x; :", 0, None),
        ("true # a comment", 0, ""),
    ],
)
async def test_commands_of_all_kinds_leave_the_shell_whole(
    bench: Bench, line: str, code: int | None, output: str | None
) -> None:
    ran, said = await bench.run(line)
    assert not ran.has_ended_shell
    assert ran.code == code or (code is None and ran.code > 0)
    assert output is None or said == output
    assert "\x1e0" not in said
    assert "here\n" in (await bench.run("set +x; echo here"))[1]


async def test_a_plain_sh_serves_too(plain: Bench) -> None:
    assert await plain.run("A=1; cd /") == (WELL, "")
    assert await plain.run('echo "$A"; pwd; echo "${BASH:-none}"') == (WELL, "1\n/\nnone\n")
    assert not (await plain.run("echo 'open"))[0].has_ended_shell
    assert await plain.run('echo "$A"') == (WELL, "1\n")


async def test_much_output_passes_and_its_end_is_seen(bench: Bench) -> None:
    ran, said = await bench.run("seq 1 200000; seq 1 200000 >&2; false")
    assert (ran.code, ran.has_ended_shell) == (1, False)
    assert "left out" in said
    assert said.endswith("200000\n")


async def test_output_in_pieces_that_cut_the_mark_is_put_together(bench: Bench) -> None:
    """What runs in the background writes among the marks, and is no part of them."""
    await bench.run("(while sleep 0.001; do printf '\\036x\\n'; printf '\\036' >&2; done) &")
    for number in range(50):
        ran, said = await bench.run(f"echo {number}")
        assert (ran, f"{number}\n" in said) == (WELL, True)


async def test_a_command_that_takes_too_long_costs_the_shell_and_the_next_is_told(bench: Bench) -> None:
    await bench.run("A=1; (setsid sleep 300 &)")
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await bench.run("echo begun; sleep 300", timeout_s=0.5)
    assert time.monotonic() - began < 60
    assert bench.is_all_gone()
    assert "begun" in bench.transcript.text("stdout")
    ran, said = await bench.run('echo "<$A>"')
    assert (ran, said) == (Ran(0, has_ended_shell=False, is_new_shell=True), "<>\n")
    assert await bench.run("true") == (WELL, "")


@pytest.mark.parametrize(
    ("line", "code"), [("echo bye; exit 3", 3), ("kill -9 $$", -9), ("set -e; false", 1), ("exec false", 1)]
)
async def test_a_command_that_ends_the_shell_is_told_so(bench: Bench, line: str, code: int) -> None:
    ran, _ = await bench.run(line)
    assert ran == Ran(code, has_ended_shell=True, is_new_shell=False)
    assert bench.is_all_gone()
    ran, _ = await bench.run("true")
    assert ran == Ran(0, has_ended_shell=False, is_new_shell=True)


async def test_a_shell_that_died_between_commands_is_replaced(bench: Bench) -> None:
    await bench.run("(sleep 0.1; kill -9 $$) & true")
    await until(bench.is_all_gone)
    ran, said = await bench.run("echo again")
    if ran.has_ended_shell:  # its end had not been heard of yet
        assert (ran.code, said) == (-9, "")
        ran, said = await bench.run("echo again")
    assert (ran, said) == (Ran(0, has_ended_shell=False, is_new_shell=True), "again\n")


async def test_what_the_background_prints_between_commands_blocks_nobody(bench: Bench) -> None:
    await bench.run("(seq 1 300000; echo finished > done) & true")
    await until((bench.folder / "done").exists)
    assert (await bench.run("echo still"))[0] == WELL


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.1, 0.5])
async def test_a_cancel_at_any_moment_leaves_nothing(bench: Bench, delay_s: float) -> None:
    running = asyncio.create_task(bench.run("setsid sleep 300 & echo begun; sleep 300"))
    await asyncio.sleep(delay_s)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await bench.shell.close()
    assert bench.is_all_gone()
