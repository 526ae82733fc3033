"""Our own JSON, version 1: what a program writes when it makes a plan.

    {"plan_version": 1, "name": "release-2", "title": "Release 2", "meta": {"workdir": "work"},
     "tasks": [{"key": "A.1", "title": "Build", "run": ["make"], "verify": ["make test"]},
               {"key": "B", "title": "Ship", "tasks": [
                   {"key": "B.1", "title": "Tag", "depends_on": ["A.1"]}]}]}

Rule: unknown names are refused, and every fault is named with its path, such as `tasks[3].depends_on`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import Finding
from orchestrator.plan.amounts import DURATION_MS_MAX
from orchestrator.plan.draft import Draft, Node, Statement
from orchestrator.plan.fields import ATTEMPTS_MAX, apply_field
from orchestrator.plan.findings import Code
from orchestrator.plan.formats.base import Detection, PlanFile
from orchestrator.plan.model import Checkboxes, DependencyKind, Mark
from orchestrator.plan.outline import TASKS_MAX
from orchestrator.text import storable

DEPTH_MAX = 50
FAULTS_SHOWN_MAX = 50
_NEAR_CUTOFF = 0.6

Line = Annotated[str, Field(min_length=1)]


class NativeTask(BaseModel):
    """One task of a native plan. Only `key` and `title` are needed.

    Attributes:
        key: the task's id, unique in the plan.
        mark: its state; `open` by default.
        priority: 0 (most urgent) to 4.
        estimate: an amount such as `4h`, or milliseconds.
        agent: the agent type that should do it.
        type, domain: class and field of work; found by rules where left out.
        depends_on: keys of the tasks that must be done before.
        informs: keys of the tasks that would gain by this one; relates: keys of tasks that belong together.
        acceptance: what must hold when it is done.
        touches: files that it changes, as patterns.
        run: shell lines that are the work; verify: shell lines that check it.
        manual: what a person must do; approve: what a person must approve before it starts.
        timeout, idle_timeout, start_timeout, grace, attempts, retry_lost, review, simulate, budget: as in
            Markdown.
        tasks: the tasks below, which make this one a container.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    key: str = Field(min_length=1, max_length=200)
    title: str = Field(min_length=1, max_length=1000)
    body: str = ""
    mark: Annotated[Mark, Field(strict=False)] = Mark.OPEN
    priority: int | None = Field(default=None, ge=0, le=4)
    estimate: str | Annotated[int, Field(ge=0, le=DURATION_MS_MAX)] | None = None
    agent: str = ""
    type: str = ""
    domain: str = ""
    depends_on: list[str] = []
    informs: list[str] = []
    relates: list[str] = []
    acceptance: list[Line] = []
    touches: list[Line] = []
    run: list[Line] = []
    verify: list[Line] = []
    manual: str = ""
    approve: str = ""
    timeout: str = ""
    idle_timeout: str = ""
    start_timeout: str = ""
    grace: str = ""
    attempts: int | None = Field(default=None, ge=1, le=ATTEMPTS_MAX)
    retry_lost: str = ""
    review: str = ""
    simulate: str = ""
    budget: str = ""
    tasks: list[NativeTask] = []


class NativePlan(BaseModel):
    """A native plan. `meta` is kept as it is; `workdir` in it is the folder of the work."""

    model_config = ConfigDict(extra="forbid", strict=True)

    plan_version: Literal[1]
    name: str = ""
    title: str = ""
    meta: dict[str, str] = {}
    tasks: list[NativeTask] = Field(max_length=TASKS_MAX)


class Native:
    """JSON with `plan_version`."""

    name = "native"

    def detect(self, file: PlanFile) -> Detection:
        """Every JSON object is taken to be meant for this format, so that its faults are named."""
        if not file.is_json:
            return Detection(confidence=0.0, reason="it is no JSON object")
        is_named = '"plan_version"' in file.text
        return Detection(
            confidence=1.0 if is_named else 0.6,
            reason="JSON with plan_version" if is_named else "JSON without plan_version",
        )

    def read(self, file: PlanFile, *, h1_is_title: bool = True) -> Draft:
        """Read and validate the JSON; faults are findings, named by line or path."""
        plan, faults = _parse(file.text)
        root = Node(title="the plan", line=0, place="the top", source=file.name)
        if plan is None:
            return Draft(title="", root=root, findings=tuple(faults))
        findings = _add_tasks(root, plan.tasks, file.name)
        tasks = list(root.descendants())
        return Draft(
            title=plan.title,
            root=root,
            checkboxes=Checkboxes(),
            key_forms=frozenset(node.own_key for node in tasks),
            findings=tuple(findings),
            meta={**plan.meta, **({"name": plan.name} if plan.name else {})},
        )


def _parse(text: str) -> tuple[NativePlan | None, list[Finding]]:
    try:
        values = json.loads(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        message = f"The JSON ends or breaks at column {error.colno}: {error.msg}."
        return None, [Code.INVALID_JSON.at(error.lineno, message, remedy="Correct it.")]
    except (RecursionError, ValueError) as error:
        message = f"The JSON cannot be read: {str(error)[:100]}."
        return None, [Code.INVALID_JSON.at(0, message, remedy="Make it simpler.")]
    if isinstance(values, dict) and "plan_version" not in values:
        message = "The JSON has no `plan_version`, so it is no native plan."
        return None, [Code.UNKNOWN_FORMAT.at(0, message, remedy='Add `"plan_version": 1`.')]
    if _depth(values) > DEPTH_MAX:
        message = f"The JSON is nested deeper than {DEPTH_MAX} levels of tasks."
        return None, [Code.TOO_DEEP.at(0, message, remedy="Flatten it.")]
    if unstorable := list(islice(_unstorable(values), FAULTS_SHOWN_MAX)):
        message = "a character that no database stores (NUL or a lone surrogate)."
        return None, [
            Code.INVALID_FIELD.at(0, f"`{path}` has {message}", remedy="Remove it.") for path in unstorable
        ]
    try:
        return NativePlan.model_validate(values), []
    except ValidationError as error:
        shown = error.errors(include_url=False, include_context=False)[:FAULTS_SHOWN_MAX]
        return None, [
            _unknown_field(fault["loc"])
            if fault["type"] == "extra_forbidden"
            else Code.INVALID_FIELD.at(0, f"`{_path(fault['loc'])}`: {fault['msg']}.", remedy="Correct it.")
            for fault in shown
        ]


def _unknown_field(location: tuple[int | str, ...]) -> Finding:
    """Tell of a field that neither plan nor task has, and which known one is nearest."""
    model = NativeTask if len(location) > 1 else NativePlan
    near = get_close_matches(str(location[-1]), model.model_fields, n=1, cutoff=_NEAR_CUTOFF)
    remedy = f"Write `{near[0]}` if that is meant; else remove it." if near else "Remove it."
    return Code.INVALID_FIELD.at(0, f"`{_path(location)}` is no field of the format.", remedy=remedy)


def _depth(values: object) -> int:
    """Levels of `tasks` below each other, found without recursion."""
    depth, level = 0, [values]
    while level and depth <= DEPTH_MAX:
        depth += 1
        tasks = [value.get("tasks") for value in level if isinstance(value, dict)]
        level = [task for below in tasks if isinstance(below, list) for task in below]
    return depth


def _unstorable(values: object) -> Iterator[str]:
    """Yield the path of every text that cannot be stored, found without recursion."""
    waiting: list[tuple[tuple[int | str, ...], object]] = [((), values)]
    while waiting:
        location, value = waiting.pop()
        if isinstance(value, str) and storable(value) != value:
            yield _path(location)
        elif isinstance(value, dict):
            waiting += [((*location, storable(name)), name) for name in value if storable(name) != name]
            waiting += [((*location, name), below) for name, below in value.items()]
        elif isinstance(value, list):
            waiting += [((*location, number), below) for number, below in enumerate(value)]


def _path(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".") or "the plan"


def _add_tasks(root: Node, tasks: list[NativeTask], source: str) -> list[Finding]:
    """Hang a node for every task below the root, with its fields."""
    findings: list[Finding] = []
    waiting = [(root, "tasks", tasks)]
    while waiting:
        parent, path, below = waiting.pop()
        for number, task in enumerate(below):
            node = _node(task, parent, f"{path}[{number}]", source)
            findings.extend(_add_texts(node, task))
            parent.children.append(node)
            waiting.append((node, f"{node.place}.tasks", task.tasks))
    return findings


def _node(task: NativeTask, parent: Node, place: str, source: str) -> Node:
    line = 0
    return Node(
        title=task.title,
        line=line,
        place=place,
        source=source,
        own_key=task.key,
        parent=parent,
        mark=task.mark,
        has_mark=True,
        body=[(line, task.body)] if task.body else [],
        priority=task.priority,
        estimate_ms=task.estimate if isinstance(task.estimate, int) else None,
        agent=task.agent,
        task_type=task.type,
        domain=task.domain,
        acceptance=list(task.acceptance),
        touches=list(task.touches),
        run=list(task.run),
        verify=list(task.verify),
        manual=task.manual,
        approve=task.approve,
        statements=[
            Statement(keys=tuple(task.depends_on), line=line),
            Statement(keys=tuple(task.informs), line=line, kind=DependencyKind.INFORMS, is_reverse=True),
            Statement(keys=tuple(task.relates), line=line, kind=DependencyKind.RELATES),
        ],
    )


def _add_texts(node: Node, task: NativeTask) -> list[Finding]:
    """The values that are written as in Markdown."""
    texts = {
        "estimate": task.estimate if isinstance(task.estimate, str) else "",
        "timeout": task.timeout,
        "idle timeout": task.idle_timeout,
        "start timeout": task.start_timeout,
        "grace": task.grace,
        "attempts": str(task.attempts) if task.attempts else "",
        "retry lost": task.retry_lost,
        "review": task.review,
        "simulate": task.simulate,
        "budget": task.budget,
    }
    found = [apply_field(node, name, value, line=0) for name, value in texts.items() if value]
    return [
        replace(finding, message=f"{node.place}: {finding.message}")
        for finding in found
        if finding is not None
    ]
