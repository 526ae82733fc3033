"""From drafts to a plan: keys, kinds, inheritance, dependencies, classification, findings.

Every format comes through here, so a rule about plans has one place and no dialect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.core.words import TaskKind
from orchestrator.errors import Finding
from orchestrator.plan.checks import check_plan, duplicate_key, inferred_cycles
from orchestrator.plan.classify import classify
from orchestrator.plan.dependencies import find_dependencies
from orchestrator.plan.dependencies.cycles import demote_inferred
from orchestrator.plan.draft import Draft, Node
from orchestrator.plan.keys import free_key, slug
from orchestrator.plan.model import BY_AUTHOR, Checkboxes, Plan, PlanTask

_DERIVED_KEY_CHARS_MAX = 120
PRIORITY_DEFAULT = 2


def assemble(drafts: Sequence[Draft], *, format_name: str, reason: str, source: str) -> Plan:
    """Make one plan of the drafts of one or several files.

    Args:
        format_name: name of the importer; `reason` says why it was chosen.
        source: the whole text.

    Raises:
        PlanError: the plan is larger than the importer takes.
    """
    nodes = [node for draft in drafts for node in draft.root.descendants()]
    keys, findings = _give_keys(nodes)
    _inherit(nodes)
    classified = [_classify(node) for node in nodes]
    found_dependencies, faults = find_dependencies(drafts, nodes, keys)
    tasks = tuple(_task(node, keys, body) for node, body in zip(nodes, classified, strict=True))
    dependencies, demoted = demote_inferred(tasks, found_dependencies)
    checked = check_plan(tasks, dependencies, drafts=drafts, nodes=nodes, source=source)
    found = [*_draft_findings(drafts), *findings, *faults, *inferred_cycles(demoted, tasks), *checked]
    meta = {name: value for draft in reversed(drafts) for name, value in draft.meta.items()}
    title = next((draft.title for draft in drafts if draft.title), str(meta.get("title", "")))
    return Plan(
        format=format_name,
        format_reason=reason,
        title=title,
        name=str(meta.pop("name", "")),
        tasks=tasks,
        dependencies=dependencies,
        findings=tuple(sorted(found, key=lambda finding: (finding.source, finding.line))),
        checkboxes=sum((draft.checkboxes for draft in drafts), Checkboxes()),
        with_id=len(frozenset[str]().union(*(draft.key_forms for draft in drafts))),
        source=source,
        meta=meta,
    )


def _give_keys(nodes: Sequence[Node]) -> tuple[dict[Node, str], list[Finding]]:
    """Every node its key: its own, else one made of its title. Of two equal ids the second gets a suffix."""
    owners: dict[str, Node] = {}
    keys: dict[Node, str] = {}
    findings = []
    counts: dict[str, int] = {}
    for node in nodes:
        if node.given_key:
            if node.given_key in owners:
                findings.append(duplicate_key(node, owners[node.given_key]))
            keys[node] = free_key(node.given_key, owners, counts)
            owners[keys[node]] = node
    for node in nodes:
        if not node.given_key:
            parent = keys.get(node.parent, "") if node.parent else ""
            keys[node] = free_key(_derived(node, parent, owners), owners, counts)
            owners[keys[node]] = node
    return keys, findings


def _derived(node: Node, parent: str, owners: Mapping[str, Node]) -> str:
    base = slug(node.alias or node.title) or ("section" if node.children else "task")
    longer = f"{parent}/{base}"
    return longer if base in owners and parent and len(longer) <= _DERIVED_KEY_CHARS_MAX else base


def _inherit(nodes: Sequence[Node]) -> None:
    """Agent, review and priority of a section hold for what stands below it, unless that says otherwise."""
    for node in nodes:
        if node.parent is not None:
            node.agent = node.agent or node.parent.agent
            if review := node.parent.options.get("review"):
                node.options.setdefault("review", review)
            node.priority = node.parent.priority if node.priority is None else node.priority


def _classify(node: Node) -> str:
    """Fill in type and domain where the author says nothing; returns the body, put together once."""
    body = "\n".join(text for _, text in sorted(node.body, key=lambda line: line[0]))
    section = node.parent.title if node.parent else ""
    found = classify(node.title, body=body, agent=node.agent, section=section)
    node.type_evidence = BY_AUTHOR if node.task_type else found.type_evidence
    node.domain_evidence = BY_AUTHOR if node.domain else found.domain_evidence
    node.task_type = node.task_type or found.task_type
    node.domain = node.domain or found.domain
    return body


def _task(node: Node, keys: Mapping[Node, str], body: str) -> PlanTask:
    return PlanTask(
        key=keys[node],
        has_own_key=bool(node.given_key),
        title=node.title,
        kind=TaskKind.CONTAINER if node.children else TaskKind.LEAF,
        parent=keys.get(node.parent, "") if node.parent else "",
        body=body,
        mark=node.mark,
        span=node.span,
        line=node.line,
        source=node.source,
        priority=PRIORITY_DEFAULT if node.priority is None else node.priority,
        estimate_ms=node.estimate_ms,
        agent=node.agent,
        task_type=node.task_type,
        domain=node.domain,
        type_evidence=node.type_evidence,
        domain_evidence=node.domain_evidence,
        acceptance=tuple(node.acceptance),
        touches=tuple(node.touches),
        run=tuple(node.run),
        verify=tuple(node.verify),
        manual=node.manual or "",
        approve=node.approve or "",
        options=dict(node.options),
    )


def _draft_findings(drafts: Sequence[Draft]) -> list[Finding]:
    return [
        replace(finding, source=finding.source or draft.root.source)
        for draft in drafts
        for finding in draft.findings
    ]
