"""What remains to be said when a plan has ended: what became of it, what is left to do, and the exit code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import quote

from orchestrator.backends import key_names
from orchestrator.cli.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_HELD
from orchestrator.cli.output import Output
from orchestrator.cli.progress import Progress, TaskLine
from orchestrator.cli.text import count, duration, money, one_line
from orchestrator.core.words import HoldReason, PlanState, TaskState
from orchestrator.routing.backends import SIMULATED

LOG_LINES_MAX = 10
_TASKS_SHOWN_MAX = 20

#: Why a task is held → what its person can do.
_REMEDIES: Mapping[str, str] = {
    HoldReason.NO_CREDENTIALS: (
        "set {api_keys}, then `orchestrator down` and `up` if a stack is up, and run the plan again;"
        " without a key a task needs `run:` lines and no `review:`"
    ),
    HoldReason.NOT_INSTALLED: (
        "install Claude Code, `pip install 'coditect-orchestrator[claude-code]'`, then `orchestrator down`"
        " and `up` if a stack is up, and run the plan again"
    ),
    HoldReason.BUDGET: "allow its plan more: `orchestrator budget {plan} USD`",
    HoldReason.TASK_BUDGET: (
        "allow it more: `orchestrator budget {plan} USD --task {key}`,"
        " or write a larger `budget:` into the plan and `orchestrator import` it"
    ),
    HoldReason.ATTEMPT_BUDGET: (
        "let it spend as much again: `orchestrator release {key} --plan {plan}`;"
        " how much that is say `sessions.cost_usd_max` and its agent type"
    ),
    HoldReason.NO_PROGRESS: (
        "see `orchestrator tasks {plan}` and the logs, then let it spend on: `orchestrator budget {plan} USD`"
    ),
    HoldReason.APPROVAL: "`orchestrator approve {key} --plan {plan}`, or `orchestrator reject` it",
    HoldReason.MANUAL: "do it, then say so: `orchestrator finish {key} --plan {plan}`",
    HoldReason.BY_REQUEST: "let it go on: `orchestrator release {key} --plan {plan}`",
    HoldReason.ELSEWHERE: "to work on it here as well, `orchestrator release {key} --plan {plan}`",
    HoldReason.BLOCKED_IN_PLAN: "mend what blocks it, then `orchestrator release {key} --plan {plan}`",
    HoldReason.POISON: "see `orchestrator logs {key} --plan {plan}`, then `orchestrator release` it",
    HoldReason.CANNOT_PROVE_DEAD: "make sure that its last session is gone, then `orchestrator release` it",
    HoldReason.LOST: "see how far its last session came, then `orchestrator release` or `finish` it",
}


def exit_code(progress: Progress, *, until_key: str = "") -> int:
    """Return the exit code of a plan that has come to rest, by `EXIT_CODES`."""
    counts = progress.counts()
    plan = progress.plan
    if counts[TaskState.FAILED] or plan is None or plan.state == PlanState.CANCELLED:
        return EXIT_FAILED
    if plan.state == PlanState.DONE or _is_reached(progress, until_key):
        return EXIT_DONE
    if counts[TaskState.HELD] or plan.state == PlanState.PAUSED:
        return EXIT_HELD
    return EXIT_FAILED


def result(progress: Progress, *, until_key: str = "") -> dict[str, object]:
    """Return what `--json` tells of a plan that has ended."""
    return {
        "plan": progress.plan,
        "tasks": list(progress.tasks.values()),
        "elapsed_s": round(progress.elapsed_s, 3),
        "exit_code": exit_code(progress, until_key=until_key),
    }


def write_summary(progress: Progress, *, output: Output) -> None:
    """Write the summary for people."""
    for line in _lines(progress):
        output.say(line)


def _lines(progress: Progress) -> Iterator[str]:
    plan = progress.plan
    if plan is None:
        return
    yield ""
    yield f"{plan.name}: {plan.state}{_because(progress)}"
    if plan.backend == SIMULATED:
        yield "  simulated: the sessions did no work"
    counts = progress.counts()
    yield "  " + ", ".join(f"{counts[state]} {state}" for state in TaskState if counts[state])
    yield from _failed(progress)
    yield from _held(progress, plan.name)
    tokens = f"{plan.input_tokens:,} tokens in, {plan.output_tokens:,} out"
    yield (
        f"  {duration(progress.elapsed_s)}, {count(plan.attempts, 'attempt')}, {tokens}, "
        f"{money(plan.cost_micros)} spent"
    )
    if plan.repository:
        yield f"  The work is in branches `orchestrator/...` of {plan.repository}"
    elif plan.workdir:
        yield f"  The work is in {plan.workdir}"


def _because(progress: Progress) -> str:
    return f" ({progress.reason})" if progress.reason else ""


def _failed(progress: Progress) -> Iterator[str]:
    for task in _some(progress, TaskState.FAILED):
        yield f"  failed  {task.key}  {one_line(task.title, width=80)}"
        yield f"          {one_line(task.reason or task.failure or 'no reason was given')}"
        lines = "".join(log.text for log in progress.logs.get(task.key, ())).splitlines()
        yield from (f"          | {line}" for line in lines[-LOG_LINES_MAX:])


def _held(progress: Progress, plan: str) -> Iterator[str]:
    for task in _some(progress, TaskState.HELD):
        yield f"  held    {task.key}  {one_line(task.title, width=80)}"
        remedy = remedy_of(task.reason, key=task.key, plan=plan)
        yield f"          {task.reason}{': ' + remedy if remedy else ''}"


def remedy_of(reason: str, *, key: str, plan: str) -> str:
    """Return what a person can do about a held task; empty for a reason that is not ours."""
    word, _, more = reason.partition(": ")
    return _REMEDIES.get(word, "").format(key=quote(key), plan=quote(plan), api_keys=key_names(more))


def _some(progress: Progress, state: TaskState) -> list[TaskLine]:
    return list(progress.in_state(state))[:_TASKS_SHOWN_MAX]


def _is_reached(progress: Progress, until_key: str) -> bool:
    """A plan pauses when the task asked for is done; a container is none of the leaves that are followed."""
    if not until_key or progress.plan is None or progress.plan.state != PlanState.PAUSED:
        return False
    return all(task.state == TaskState.DONE for task in progress.tasks.values() if task.key == until_key)
