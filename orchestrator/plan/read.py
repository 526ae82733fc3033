"""Read a plan: from a text, a file, a folder of files, or standard input.

Rule: what is wrong with a plan is a finding of the plan; only what cannot be read at all raises. Nothing
crashes on arbitrary bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import Finding, PlanError
from orchestrator.plan.assemble import assemble
from orchestrator.plan.draft import Draft
from orchestrator.plan.encoding import decode, stray_bytes
from orchestrator.plan.files import contents_of
from orchestrator.plan.findings import Code
from orchestrator.plan.formats import FOLDER_FORMATS, choose_format
from orchestrator.plan.formats.base import Format, PlanFile
from orchestrator.plan.model import Plan
from orchestrator.text import storable

PLAN_LINES_MAX = 1_000_000


def read_plan(text: str, *, source: str = "", format: str = "auto") -> Plan:  # noqa: A002  the word of the CLI
    """Read a plan from a text.

    Args:
        text: Markdown or JSON.
        source: what messages call the text; empty for the only text there is.
        format: `auto`, or the name of one of `FORMATS`.

    Returns:
        The plan with its findings; `plan.errors` refuse it.

    Raises:
        PlanError: the format is unknown, or the plan is larger than the importer takes.
    """
    draft, chosen, reason = _read_draft(text, source=source, format_name=format, h1_is_title=True)
    return assemble([draft], format_name=chosen.name, reason=reason, source=storable(text))


def read_path(path: Path | str, *, format: str = "auto") -> Plan:  # noqa: A002  the word of the CLI
    """Read a plan from a file, from a folder (its Markdown files, in order, are one plan), or from `-`.

    Raises:
        PlanError: the path is missing, unreadable or too large; or as `read_plan`.
    """
    contents = contents_of(Path(path), format=format)
    texts = {name: decode(content, name or str(path)) for name, content in contents.items()}
    plan = read_files(texts, format=format)
    strays = [finding for name, content in contents.items() for finding in stray_bytes(content, source=name)]
    return replace(plan, findings=(*strays, *plan.findings))


def read_files(texts: Mapping[str, str], *, format: str = "auto") -> Plan:  # noqa: A002  the word of the CLI
    """Read the files of a folder as one plan: whole, where a format knows it, else one after the other.

    Args:
        texts: the texts of the files, one or more, by their paths below the folder; the only one may have an
            empty path.

    Raises:
        PlanError: as `read_plan`.
    """
    for each in FOLDER_FORMATS:
        if format in ("auto", each.name) and (names := each.files(list(texts))):
            files = [PlanFile(storable(texts[name]), name=name) for name in names]
            source = "\n".join(file.text for file in files)
            draft = each.read_folder(files)
            if any(file.text != texts[file.name] for file in files):
                draft = _remark_replaced(draft)
            reason = f"the folder has {names[0]}"
            return assemble([draft], format_name=each.name, reason=reason, source=source)
    kept, copies = _without_copies(texts)
    is_one = len(kept) == 1
    read = [
        _read_draft(text, source=name, format_name=format, h1_is_title=is_one) for name, text in kept.items()
    ]
    _, chosen, reason = max(read, key=lambda draft: draft[1].name != "checklist")
    source = "\n".join(map(storable, kept.values()))
    drafts = [draft for draft, _, _ in read]
    drafts[0] = replace(drafts[0], findings=(*drafts[0].findings, *copies))
    return assemble(drafts, format_name=chosen.name, reason=reason, source=source)


def _without_copies(texts: Mapping[str, str]) -> tuple[dict[str, str], list[Finding]]:
    """The files that are no copies of another, and what to say of those that are."""
    kept: dict[str, str] = {}
    first: dict[str, str] = {}
    findings = []
    for name, text in texts.items():
        original = first.setdefault(text, name)
        if original == name or not text.strip():
            kept[name] = text
        else:
            message = f"{name} is a copy of {original} and is left out."
            findings.append(Code.COPIED_FILE.at(0, message, remedy="Move it out of the folder."))
    return kept, findings


def _read_draft(text: str, *, source: str, format_name: str, h1_is_title: bool) -> tuple[Draft, Format, str]:
    readable = storable(text)
    if max(text.count("\n"), text.count("\r")) > PLAN_LINES_MAX:
        message = f"The plan{f' {source!r}' if source else ''} has more than {PLAN_LINES_MAX:,} lines."
        raise PlanError(message, remedy="Split it into several plans.")
    file = PlanFile(readable, name=source)
    chosen, reason = choose_format(file, format_name)
    draft = chosen.read(file, h1_is_title=h1_is_title)
    if readable != text:
        draft = _remark_replaced(draft)
    return draft, chosen, reason


def _remark_replaced(draft: Draft) -> Draft:
    message = "Characters that no database stores (NUL, lone surrogates) were replaced by U+FFFD."
    finding = Code.REPLACED_CHARACTERS.at(0, message, remedy="Remove them.")
    return replace(draft, findings=(finding, *draft.findings))
