"""A plan in other notations, for other tools: one module for each family.

Every writer is a pure function of the plan, and the same plan gives the same text. What a notation cannot say
is left out; only `json` and `markdown` are read again as the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.errors import PlanError
from orchestrator.plan.export.cypher import to_cypher
from orchestrator.plan.export.diagrams import to_dot, to_mermaid
from orchestrator.plan.export.graphml import to_graphml
from orchestrator.plan.export.native import to_native
from orchestrator.plan.export.tables import to_beads, to_csv
from orchestrator.plan.markdown_out import to_markdown
from orchestrator.plan.model import Plan


@dataclass(frozen=True, slots=True)
class Export:
    """One notation: how a plan is written in it, and what HTTP calls it."""

    write: Callable[[Plan], str]
    media_type: str


#: Every notation, by the name that `--to` takes.
EXPORTS: Mapping[str, Export] = {
    "json": Export(to_native, "application/json"),
    "jsonl": Export(to_beads, "application/jsonl"),
    "csv": Export(to_csv, "text/csv"),
    "markdown": Export(to_markdown, "text/markdown"),
    "mermaid": Export(to_mermaid, "text/vnd.mermaid"),
    "dot": Export(to_dot, "text/vnd.graphviz"),
    "graphml": Export(to_graphml, "application/graphml+xml"),
    "cypher": Export(to_cypher, "application/x-cypher-query"),
}


def export_plan(plan: Plan, to: str) -> str:
    """Write a plan in another notation.

    Raises:
        PlanError: there is no such notation.
    """
    if to not in EXPORTS:
        raise PlanError(f"Plans are not written as {to!r}.", remedy=f"Use {', '.join(EXPORTS)}.")
    return EXPORTS[to].write(plan)
