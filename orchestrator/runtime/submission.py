"""Turns what was handed in into a plan that is ready to be stored: read, named, placed, routed, ranked.

It takes as long as the plan is large, so callers run it in a thread. Whatever is wrong is a PlanError,
before anything is stored.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from orchestrator.errors import PlanError
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.model import Plan
from orchestrator.plan.read import read_files, read_plan
from orchestrator.ports import MICROS
from orchestrator.routing import Routing, checked_plan, wanted_backend
from orchestrator.settings import Settings
from orchestrator.store.plan_rows import NewPlan
from orchestrator.text import storable
from orchestrator.views import FindingView, SubmitRequest

_NAME_CHARS_MAX = 500


def read_submission(request: SubmitRequest, *, routing: Routing, settings: Settings) -> NewPlan:
    """Read and route a plan; what it leaves open is taken from the settings.

    Raises:
        PlanError: it has errors, no name, an unknown `until_key`, or a workdir that leads nowhere.
    """
    files = request.files or {"": request.text}
    plan = read_plan(request.text, format=request.format)
    if request.files:
        plan = read_files(request.files, format=request.format)
    plan = checked_plan(plan, routing=routing, settings=settings, asked=request.backend)
    _refuse_errors(plan, source=request.source)
    graph = PlanGraph(plan.tasks, plan.dependencies)
    if request.until_key:
        graph.needed_for(request.until_key)
    return NewPlan(
        plan=routing.with_reviewers(plan),
        name=_name(plan, request),
        workdir=_workdir(plan, request),
        backend=wanted_backend(request.backend, plan=plan, settings=settings),
        budget_micros=request.budget_micros or round(settings.limits.plan_budget_usd * MICROS),
        until_key=request.until_key,
        files={path: storable(text) for path, text in files.items()},
        decisions=routing.route(plan),
        ranks=graph.downstream_ms(),
        is_taken=request.take,
    )


def finding_views(plan: Plan) -> tuple[FindingView, ...]:
    """Return the findings as readers see them."""
    return tuple(FindingView(**asdict(finding)) for finding in plan.findings)


def _refuse_errors(plan: Plan, *, source: str) -> None:
    errors = plan.errors
    if not errors:
        return
    first = errors[0]
    others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    place = f", line {first.line}" if first.line else ""
    raise PlanError(
        f"{source or 'The plan'}{place}: {first.message} {first.remedy}{others}",
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
