"""Break the product on purpose, one defect at a time, and see that the tests notice.

    python tests/mutations.py                 every defect
    python tests/mutations.py epoch probe     those whose names hold one of the words

Each defect is a small change to a copy of the source tree. Prints `defect -> the first test that failed`.
Ends with 1 if one survives, with 2 if a change no longer fits the source or a test fails without any.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("orchestrator", "actors", "cluster", "serve_app", "tests", "examples", "docs", "pyproject.toml")

#: The tests that must notice a defect, by where it is; asked one after the other until one has failed.
WATCHED_BY = {
    "orchestrator/core": ("tests/unit/core", "tests/property/core", "tests/model"),
    "orchestrator/runtime": ("tests/unit/runtime", "tests/simulation"),
    "orchestrator/store": ("tests/contract/stores", "tests/contract/test_committer.py"),
}
WORKERS = 2
TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class Defect:
    """A change that must be noticed. `old` stands exactly once in `path`."""

    name: str
    path: str
    old: str
    new: str


DEFECTS = (
    Defect(
        name="a fenced attempt may store its result",
        path="orchestrator/store/executors.py",
        old="WHERE a.token = u.token AND a.state = 'started'",
        new="WHERE a.token = u.token AND a.state IN ('started', 'lost')",
    ),
    Defect(
        name="a start of another incarnation is accepted",
        path="orchestrator/store/executors.py",
        old="state = 'started' AND incarnation = %(incarnation)s",
        new="state = 'started' AND %(incarnation)s <> ''",
    ),
    Defect(
        name="a result that is stored does not win over the fence",
        path="orchestrator/store/scheduler.py",
        old='return Fate(verdict="result", result=ended(row)) if row["is_leased"]',
        new='return None if may_fence else Fate(verdict="result", result=ended(row)) if row["is_leased"]',
    ),
    Defect(
        name="the epoch is not checked",
        path="orchestrator/store/commit_call.py",
        old="WHERE epoch = {epoch} AND NOT is_released RETURNING",
        new="WHERE NOT is_released RETURNING",
    ),
    Defect(
        name="a task is written whatever its version",
        path="orchestrator/store/batches.py",
        old="WHERE t.task_id = u.id AND t.version = u.expected",
        new="WHERE t.task_id = u.id",
    ),
    Defect(
        name="starts are sent before they are committed",
        path="orchestrator/runtime/driver.py",
        old="""        await self._commits.commit(rows_in(commands))
        await self._act([c for c in commands if type(c) in _EFFECTS])
""",
        new="""        await self._act([c for c in commands if type(c) in _EFFECTS])
        await self._commits.commit(rows_in(commands))
""",
    ),
    Defect(
        name="the time of an outage counts against leases",
        path="orchestrator/runtime/driver.py",
        old="if self._writing is not None and self._is_slow():",
        new="if False:",
    ),
    Defect(
        name="the time of a commit that hung counts against starts",
        path="orchestrator/runtime/driver.py",
        old="            if late_s > 0:\n",
        new="            if False:\n",
    ),
    Defect(
        name="a commit whose end is unknown is sent again unasked",
        path="orchestrator/runtime/commits.py",
        old="            return is_committed\n",
        new="            return False\n",
    ),
    Defect(
        name="leases are renewed on the main loop",
        path="orchestrator/runtime/renewal.py",
        old="threading.Thread(target=self._repeat, args=(every_s, work), name=name, daemon=True).start()",
        new='del name; __import__("asyncio").get_event_loop().call_later(every_s, work)',
    ),
    Defect(
        name="a token that comes twice is started twice",
        path="orchestrator/runtime/executing.py",
        old="new = [token for token in dict.fromkeys(tokens) if token not in self._seen]",
        new="new = list(tokens)",
    ),
    Defect(
        name="a session is opened though its lease was lost meanwhile",
        path="orchestrator/runtime/executing.py",
        old="if self._leases.holds(assignment.token)]",
        new="]",
    ),
    Defect(
        name="dependents are released before the gate",
        path="orchestrator/core/moving.py",
        old="""    move_task(s, task, TaskState.VERIFYING, reason=_stage(task))
    enqueue(s, task)
""",
        new="""    move_task(s, task, TaskState.VERIFYING, reason=_stage(task))
    _release_dependents(s, task)
    enqueue(s, task)
""",
    ),
    Defect(
        name="a loss is charged as an attempt",
        path="orchestrator/core/retry.py",
        old="FailureClass.INFRASTRUCTURE: ClassPolicy(is_retryable=True, is_charged=False,",
        new="FailureClass.INFRASTRUCTURE: ClassPolicy(is_retryable=True, is_charged=True,",
    ),
    Defect(
        name="the back-off has no jitter",
        path="orchestrator/core/retry.py",
        old="(1.0 + jitter * unit)",
        new="(1.0 + 0 * jitter * unit)",
    ),
    Defect(
        name="a half-open breaker lets two probes through",
        path="orchestrator/core/breaker.py",
        old="return breaker.state is BreakerState.OPEN or breaker.probe != 0",
        new="return breaker.state is BreakerState.OPEN",
    ),
    Defect(
        name="a probe that says nothing keeps its place",
        path="orchestrator/core/breaker.py",
        old="    if breaker is not None and is_probe:\n",
        new="    if breaker is not None and is_probe and effect is not BreakerEffect.NEUTRAL:\n",
    ),
    Defect(
        name="the result of a cancelled attempt makes its task done",
        path="orchestrator/core/reports.py",
        old="move_task(s, task, TaskState.CANCELLED, reason=attempt.cancel_reason)",
        new="move_task(s, task, TaskState.DONE, reason=attempt.cancel_reason)",
    ),
    Defect(
        name="a gate that its author has taken back is waited for",
        path="orchestrator/core/moving.py",
        old="    if _is_asked_for(task, task.wants):\n",
        new="    if task.wants:\n",
    ),
    Defect(
        name="what is ready starts in any priority",
        path="orchestrator/core/ready.py",
        old="(task.priority, -task.rank, ticket, task)",
        new="(0, -task.rank, ticket, task)",
    ),
    Defect(
        name="a tenant gets no turn of its own",
        path="orchestrator/core/fairness.py",
        old="        if ran != tenant.ran:\n",
        new="        if ran > tenant.ran:\n",
    ),
    Defect(
        name="leases expire at once after the database was away",
        path="orchestrator/core/leases.py",
        old="attempt.leased_at_ms = attempt.beat_at_ms = at_ms",
        new="attempt.leased_at_ms = at_ms",
    ),
    Defect(
        name="recovery does not adopt what runs",
        path="orchestrator/core/loading.py",
        old="    for live in event.attempts:\n        _adopt(s, plan, live, at_ms=at_ms)\n",
        new="",
    ),
    Defect(
        name="recovery forgets what was fenced just before the crash",
        path="orchestrator/core/loading.py",
        old="if live.state is AttemptState.LOST:  #",
        new="if live.state is AttemptState.TIMED_OUT:  #",
    ),
    Defect(
        name="a restart forgets that everything is paused",
        path="orchestrator/core/machine.py",
        old="self.is_paused = event.is_paused",
        new="self.is_paused = False",
    ),
)


def main() -> int:
    """Try the defects that the command line names, or all."""
    words = sys.argv[1:]
    chosen = [d for d in DEFECTS if not words or any(word in d.name for word in words)]
    misfits = [d.name for d in chosen if (ROOT / d.path).read_text().count(d.old) != 1]
    if misfits:
        print("These changes no longer fit the source:", *misfits, sep="\n  ")
        return 2
    with _copied() as copy:
        everything = [path for paths in WATCHED_BY.values() for path in paths]
        failing = [test for path in everything if (test := _failing(copy, path))]
    if failing:
        print("These fail without any defect:", *failing, sep="\n  ")
        return 2
    with ThreadPoolExecutor(WORKERS) as workers:
        caught = list(workers.map(_try, chosen))
    survivors = [defect.name for defect, tests in zip(chosen, caught, strict=True) if not tests]
    print(f"\n{len(chosen)} defects, {len(survivors)} survived", *survivors, sep="\n  ")
    return 1 if survivors else 0


def _try(defect: Defect) -> str:
    """Return the first test that fails with the defect."""
    caught = ""
    with _copied() as copy:
        broken = copy / defect.path
        broken.write_text(broken.read_text().replace(defect.old, defect.new))
        for path in WATCHED_BY[defect.path.rpartition("/")[0]]:
            caught = caught or _failing(copy, path)
    print(f"{defect.name} -> {caught or 'SURVIVED'}", flush=True)
    return caught


@contextmanager
def _copied() -> Iterator[Path]:
    """Give a copy of the source tree."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        for name in COPIED:
            source, to = ROOT / name, Path(folder) / name
            if source.is_dir():
                shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, to)
        yield Path(folder)


def _failing(copy: Path, path: str) -> str:
    """Return a test that fails in the copy, and again when it is asked alone; empty if there is none."""
    for _ in range(3):
        test = _first_failing(copy, path)
        if not test or _first_failing(copy, test):
            return test.removeprefix("tests/")
    return ""


def _first_failing(copy: Path, path: str) -> str:
    """Run tests in the copy until one fails; return it."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", path]
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "unshrunk", "PYTHONPATH": str(copy)}
    try:
        ended = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return path
    if ended.returncode == 0:
        return ""
    named = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", ended.stdout, flags=re.MULTILINE)
    if named is None:
        raise RuntimeError(f"the tests of {path} did not run:\n{ended.stdout}\n{ended.stderr}")
    return named[1]


if __name__ == "__main__":
    sys.exit(main())
