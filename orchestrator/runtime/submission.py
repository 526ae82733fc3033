"""Turns what was handed in into a plan that is ready to be stored: read, named, placed, routed, ranked.

It takes as long as the plan is large, so callers run it in a thread. Whatever is wrong is a PlanError,
before anything is stored.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orchestrator.errors import PlanError
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.model import Plan
from orchestrator.plan.read import read_plan
from orchestrator.routing import Routing
from orchestrator.store.plan_rows import NewPlan
from orchestrator.views import FindingView, SubmitRequest

BACKENDS = ("auto", "command", "simulated", "anthropic")
_NAME_CHARS_MAX = 500


def read_submission(request: SubmitRequest, *, routing: Routing) -> NewPlan:
    """Read and route a plan.

    Raises:
        PlanError: it has errors, no name, an unknown backend or `until_key`, or a workdir that leads nowhere.
    """
    plan = read_plan(request.text, source=request.source, format=request.format)
    _refuse_errors(plan, source=request.source)
    return NewPlan(
        plan=replace(plan, findings=(*plan.findings, *routing.findings(plan))),
        name=_name(plan, request),
        workdir=_workdir(plan, request),
        backend=_backend(plan, request),
        budget_micros=request.budget_micros,
        until_key=_until_key(plan, request),
        decisions=routing.route(plan),
        ranks=PlanGraph(plan.tasks, plan.dependencies).downstream_ms(),
        is_taken=request.take,
    )


def finding_views(plan: Plan) -> tuple[FindingView, ...]:
    """Return the findings as readers see them."""
    return tuple(
        FindingView(line=f.line, code=f.code, message=f.message, severity=f.severity, source=f.source)
        for f in plan.findings
    )


def _refuse_errors(plan: Plan, *, source: str) -> None:
    errors = plan.errors
    if not errors:
        return
    first = errors[0]
    others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    raise PlanError(
        f"{source or 'The plan'}, line {first.line}: {first.message}{others}",
        remedy="Mend what the findings name and submit the plan again; nothing was stored.",
        findings=plan.findings,
    )


def _name(plan: Plan, request: SubmitRequest) -> str:
    name = (request.name or plan.name or plan.title).strip()
    if not name:
        raise PlanError(
            "The plan has no name: neither the request nor the front matter nor a title gives one.",
            remedy="Give it a name.",
        )
    if len(name) > _NAME_CHARS_MAX:
        raise PlanError(
            f"The name of the plan has {len(name)} characters; at most {_NAME_CHARS_MAX} are allowed.",
            remedy="Give it a shorter name.",
        )
    return name


def _workdir(plan: Plan, request: SubmitRequest) -> str:
    written = request.workdir or str(plan.meta.get("workdir") or "")
    if not written:
        return ""
    path = Path(request.base_dir) / written
    if not path.is_absolute():
        raise PlanError(
            f"The workdir {written!r} of the plan is relative, and the request does not say to which folder.",
            remedy="Give an absolute `workdir`, or the `base_dir` that it is relative to.",
        )
    return str(path)


def _backend(plan: Plan, request: SubmitRequest) -> str:
    asked = request.backend if request.backend != "auto" else str(plan.meta.get("backend") or "auto")
    if asked not in BACKENDS:
        raise PlanError(f"There is no backend {asked!r}.", remedy=f"Choose one of {', '.join(BACKENDS)}.")
    return asked


def _until_key(plan: Plan, request: SubmitRequest) -> str:
    key = request.until_key
    if key and all(task.key != key for task in plan.tasks):
        raise PlanError(
            f"The plan has no task {key!r} to stop at.", remedy="Name the key of one of its tasks."
        )
    return key
