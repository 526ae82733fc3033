"""spec-kit's `tasks.md`: numbered tasks in phases, with tags for what may run side by side.

    ## Phase 2: Foundational
    - [ ] T004 [P] [US1] Add the price table in src/price.ts (depends on T002)
    **Checkpoint**: prices are stored

`[P]` says that the task may run beside its neighbours; `plan.dependencies` says what order that leaves.
"""

from __future__ import annotations

import re
from dataclasses import replace

from orchestrator.plan.draft import Draft, Node
from orchestrator.plan.fields import apply_field
from orchestrator.plan.findings import are
from orchestrator.plan.formats.base import Detection, PlanFile
from orchestrator.plan.keys import find_key
from orchestrator.plan.markdown import Heading, Item
from orchestrator.plan.outline import read_outline

_SURE_TASKS = 3
_NUMBER = re.compile(r"T\d{3,}")
_TAG = re.compile(r"\s*\[(?P<name>[A-Z][A-Z0-9-]*)(?:\s*:\s*(?P<value>[^\]]*))?\]\s*")
_SIGN = re.compile(r"\[(?:P|US\d+|SEQUENTIAL|PARALLEL-GROUP-\w+|EXECUTOR:[^\]]*)\]")
_PATH = re.compile(
    r"(?<![\w/.@-])`?((?:[\w.@-]+/)+[\w.*{},@-]*[\w*}/]|[\w-]+\.(?:md|json|ya?ml|toml|txt|lock))`?"
)
_STORY = re.compile(r"US\d+")


class SpecKit:
    """Markdown with ids such as `T014` and the tags of spec-kit."""

    name = "spec-kit"

    def detect(self, file: PlanFile) -> Detection:
        """Sure from three numbered tasks with tags or under a title `Tasks:`; without either no plan is."""
        if file.is_json:
            return Detection(confidence=0.0, reason="it is JSON")
        numbered, tags, is_titled = 0, 0, False
        for block in file.document.blocks:
            if isinstance(block, Heading):
                is_titled |= block.level == 1 and block.text.lower().startswith("tasks")
            elif isinstance(block, Item) and block.state is not None and (key := find_key(block.text)):
                numbered += _NUMBER.fullmatch(key.key) is not None
                tags += _SIGN.search(key.rest) is not None
        is_sure = numbered >= _SURE_TASKS and (tags > 0 or is_titled)
        reason = f"{are(numbered, 'box')} numbered like T001, {tags} of them with tags such as [P]"
        return Detection(confidence=0.95 if is_sure else 0.0, reason=reason)

    def read(self, file: PlanFile, *, h1_is_title: bool = True) -> Draft:
        """Read the outline, then the tags of its tasks and the files that they name."""
        draft = read_outline(file.document, source=file.name, reads_keys=True, h1_is_title=h1_is_title)
        for node in draft.root.descendants():
            if not node.is_heading:
                _take_tags(node)
                node.touches.extend(dict.fromkeys(_PATH.findall(node.title)))
        return replace(draft, has_phase_order=True)


def _take_tags(node: Node) -> None:
    """Move the tags of a task from its title to its fields."""
    while (tag := _TAG.match(node.title)) and _take_tag(node, tag["name"], tag["value"] or ""):
        rest = node.title[tag.end() :]
        node.title = rest or node.own_key
        if not rest:
            break


def _take_tag(node: Node, name: str, value: str) -> bool:
    """Take one tag; False if it is none of ours and belongs to the title."""
    if name == "P" or name.startswith("PARALLEL"):
        node.is_parallel = True
    elif name == "ORCHESTRATOR":
        node.agent = node.agent or "orchestrator"
    elif name in ("EXECUTOR", "AGENT") and value:
        apply_field(node, "agent", value, line=node.line)
    elif name in ("BLOCKING", "BLOCKS") and value:
        apply_field(node, "blocks", value, line=node.line)
    elif _STORY.fullmatch(name):
        node.options["story"] = name
    else:
        return name == "SEQUENTIAL"
    return True
