"""GitHub task lists: check boxes that stand for issues, `- [ ] #123`, or a link to one.

The reference is the key: `#123` in the same repository, `owner/name#123` in another.
"""

from __future__ import annotations

import re
from dataclasses import replace

from orchestrator.plan.draft import Draft
from orchestrator.plan.findings import are
from orchestrator.plan.formats.base import Detection, PlanFile
from orchestrator.plan.markdown import Item
from orchestrator.plan.outline import read_outline

_SHARE_MIN = 0.3
_REFERENCE = re.compile(
    r"(?:(?P<repo>[\w.-]+/[\w.-]+)?#(?P<number>\d{1,9})"
    r"|<?https://github\.com/(?P<owner>[\w.-]+/[\w.-]+)/(?:issues|pull)/(?P<issue>\d{1,9})>?"
    r"|\[(?P<title>[^\]]*)\]\(https://github\.com/(?P<linked>[\w.-]+/[\w.-]+)/(?:issues|pull)/(?P<link>\d{1,9})\))"
    r"(?![\w/])[\s:–—-]*"
)


class GitHub:
    """Markdown whose boxes stand for issues."""

    name = "github"

    def detect(self, file: PlanFile) -> Detection:
        """Sure if a third of the boxes begin with a reference to an issue."""
        if file.is_json:
            return Detection(confidence=0.0, reason="it is JSON")
        boxes = [
            block.text
            for block in file.document.blocks
            if isinstance(block, Item) and block.state is not None
        ]
        issues = sum(_REFERENCE.match(text) is not None for text in boxes)
        is_sure = issues > 0 and issues >= _SHARE_MIN * len(boxes)
        return Detection(confidence=0.8 if is_sure else 0.0, reason=f"{are(issues, 'box')} an issue")

    def read(self, file: PlanFile, *, h1_is_title: bool = True) -> Draft:
        """Read the outline; the issues at the starts of titles are keys."""
        draft = read_outline(file.document, source=file.name, reads_keys=False, h1_is_title=h1_is_title)
        keys = set()
        for node in draft.root.descendants():
            reference = None if node.is_heading or node.own_key else _REFERENCE.match(node.title)
            if reference:
                repository = reference["repo"] or reference["owner"] or reference["linked"] or ""
                number = reference["number"] or reference["issue"] or reference["link"]
                node.own_key = f"{repository}#{number}"
                node.title = (
                    f"{reference['title'] or ''} {node.title[reference.end() :]}".strip() or node.own_key
                )
                keys.add(node.own_key)
        return replace(draft, key_forms=draft.key_forms | keys)
