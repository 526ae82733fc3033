"""The dependencies of a plan: what its author states, and what his words imply.

`references` reads names, `lookup` finds their tasks, `statements` takes fields and notes; `cues` and `prose`
read sentences, which `inference` finds; `phases` knows what a dialect orders without a word; `edges` collects
what comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.errors import Finding
from orchestrator.plan.dependencies.edges import Edges
from orchestrator.plan.dependencies.inference import Inference
from orchestrator.plan.dependencies.lookup import Lookup
from orchestrator.plan.dependencies.phases import Phases
from orchestrator.plan.dependencies.statements import Statements
from orchestrator.plan.draft import Draft, Node
from orchestrator.plan.model import PlanDependency


def find_dependencies(
    drafts: Sequence[Draft], nodes: Sequence[Node], keys: Mapping[Node, str]
) -> tuple[tuple[PlanDependency, ...], list[Finding]]:
    """Find the dependencies between the nodes of a plan, and what is wrong with them.

    Args:
        nodes: every node of the plan, parents before children, in the order of the source.
        keys: the key of each node.

    Raises:
        PlanError: the plan states more dependencies than are taken.
    """
    unused = {key: line for draft in drafts for key, line in draft.unused_keys.items()}
    lookup = Lookup(nodes, keys, unused)
    edges = Edges(lookup)
    statements = Statements(lookup, edges)
    for node in nodes:
        for statement in node.statements:
            statements.take(node, statement)
    inference = Inference(lookup, edges)
    for node in (*(draft.root for draft in drafts), *nodes):
        inference.read(node)
    phases = Phases(lookup, edges)
    for draft in drafts:
        if draft.has_phase_order:
            phases.order(draft)
    return edges.dependencies, [*statements.findings, *edges.findings]
