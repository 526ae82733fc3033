"""GraphML: the plan as a graph with attributes, for networkx, Gephi, yEd and the like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from orchestrator.plan.export.parts import known_edges, numbers, task_values
from orchestrator.plan.model import Plan, PlanDependency

#: What XML 1.0 cannot hold, in whatever way it is written.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_TASK_TYPES = {
    "key": "string", "title": "string", "kind": "string", "parent": "string", "mark": "string",
    "priority": "int", "estimate_ms": "long", "agent": "string", "task_type": "string", "domain": "string",
}  # fmt: skip
_EDGE_TYPES = {"dependency": "string", "is_explicit": "boolean", "confidence": "double", "evidence": "string"}


def to_graphml(plan: Plan) -> str:
    """Write a directed graph; edges lead from what comes first to what waits for it."""
    names = numbers(plan)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">',
        *_declared("node", _TASK_TYPES),
        *_declared("edge", _EDGE_TYPES),
        f'  <graph id={_attribute(plan.title or plan.name or "plan")} edgedefault="directed">',
    ]
    for task in plan.tasks:
        lines += [f'    <node id="{names[task.key]}">', *_data("node", task_values(task)), "    </node>"]
    for edge in known_edges(plan):
        start = f'    <edge source="{names[edge.on]}" target="{names[edge.task]}">'
        lines += [start, *_data("edge", _edge_values(edge)), "    </edge>"]
    return "\n".join([*lines, "  </graph>", "</graphml>"]) + "\n"


def _declared(element: str, types: dict[str, str]) -> Iterator[str]:
    for name, kind in types.items():
        yield f'  <key id="{element}.{name}" for="{element}" attr.name="{name}" attr.type="{kind}"/>'


def _data(element: str, values: dict[str, str]) -> Iterator[str]:
    for name, value in values.items():
        if value:
            yield f'      <data key="{element}.{name}">{_content(value)}</data>'


def _edge_values(edge: PlanDependency) -> dict[str, str]:
    return {
        "dependency": edge.kind.value,
        "is_explicit": str(edge.is_explicit).lower(),
        "confidence": str(edge.confidence),
        "evidence": edge.evidence,
    }


def _content(text: str) -> str:
    """Text as the content of an element; a carriage return would be read as a line feed."""
    return escape(_NOT_XML.sub("\ufffd", text), {"\r": "&#13;"})


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", text))
