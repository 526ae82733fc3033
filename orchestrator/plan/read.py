"""Read a plan: from a text, a file, a folder of files, or standard input.

Rule: what is wrong with a plan is a finding of the plan; only what cannot be read at all raises. Nothing
crashes on arbitrary bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import Finding, PlanError
from orchestrator.plan.assemble import assemble
from orchestrator.plan.draft import Draft
from orchestrator.plan.findings import Code
from orchestrator.plan.formats import FOLDER_FORMATS, choose_format
from orchestrator.plan.formats.base import Format, PlanFile
from orchestrator.plan.model import Plan
from orchestrator.text import storable

PLAN_BYTES_MAX = 64 * 1024 * 1024
PLAN_LINES_MAX = 1_000_000
FILES_MAX = 1000
_SUFFIXES = frozenset({".md", ".jsonl", ".yml"})

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


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
        PlanError: the path is missing, unreadable, too large or no UTF-8 text; or as `read_plan`.
    """
    if str(path) == "-":
        return read_plan(
            _decode(_read_bytes(sys.stdin.buffer, "standard input"), "standard input"), format=format
        )
    path = Path(path)
    try:
        if path.is_dir():
            return _read_folder(path, format_name=format)
        if path.exists() and not path.is_file():
            raise PlanError(f"{path} is no ordinary file.", remedy="Name a file or a folder.")
        return read_plan(_read_file(path), format=format)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError | ValueError) -> PlanError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    remedy = "Check the path and its permissions."
    return PlanError(f"The plan {str(path)!r} cannot be read: {reason}.", remedy=remedy)


def read_files(texts: Mapping[str, str], *, format: str = "auto") -> Plan:  # noqa: A002  the word of the CLI
    """Read the files of a folder as one plan: whole, where a format knows it, else one after the other.

    Args:
        texts: the texts of the files, one or more, by their paths below the folder.

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
        _read_draft(text, source="" if is_one else name, format_name=format, h1_is_title=is_one)
        for name, text in kept.items()
    ]
    _, chosen, reason = max(read, key=lambda draft: draft[1].name != "checklist")
    source = "\n".join(map(storable, kept.values()))
    drafts = [draft for draft, _, _ in read]
    drafts[0] = replace(drafts[0], findings=(*drafts[0].findings, *copies))
    return assemble(drafts, format_name=chosen.name, reason=reason, source=source)


def texts_of(path: Path, *, format: str = "auto") -> dict[str, str]:  # noqa: A002  the word of the CLI
    """Return the texts of a plan's file, or of the files of its folder by their paths below it.

    The only one has an empty path.

    Raises:
        PlanError: as `read_path`.
    """
    try:
        texts = _folder_texts(path, format_name=format) if path.is_dir() else {"": _read_file(path)}
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return texts if len(texts) > 1 else {"": next(iter(texts.values()))}


def _read_folder(folder: Path, *, format_name: str) -> Plan:
    return read_files(_folder_texts(folder, format_name=format_name), format=format_name)


def _folder_texts(folder: Path, *, format_name: str) -> dict[str, str]:
    """The files of a plan in a folder and below it, without hidden ones, in the order of their names."""
    found = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix in _SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    }
    whole = (each.files(list(found)) for each in FOLDER_FORMATS if format_name in ("auto", each.name))
    names = next(filter(None, whole), [name for name in found if name.endswith(".md")])
    if not names:
        message = f"The folder {str(folder)!r} has no Markdown file and no plan of a tracker."
        raise PlanError(message, remedy="Name a folder with Markdown files, or one file.")
    if len(names) > FILES_MAX:
        raise PlanError(f"The folder {str(folder)!r} has more than {FILES_MAX} files.", remedy="Name fewer.")
    texts = {name: _read_file(found[name]) for name in names}
    if sum(map(len, texts.values())) > PLAN_BYTES_MAX:
        message = f"The files of {str(folder)!r} are larger than 64 MiB together."
        raise PlanError(message, remedy="Split the plan.")
    return texts


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


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _decode(_read_bytes(file, str(path)), str(path))
    except OSError as error:  # told here, where the file of a folder is known
        raise _unreadable(path, error) from error


def _read_bytes(file: BinaryIO, name: str) -> bytes:
    content = file.read(PLAN_BYTES_MAX + 1)
    if len(content) > PLAN_BYTES_MAX:
        raise PlanError(f"The plan {name!r} is larger than 64 MiB.", remedy="Split it into several plans.")
    return content


def _decode(content: bytes, name: str) -> str:
    encoding = "utf-16" if content.startswith(_UTF16_MARKS) else "utf-8"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x} in line {line}"
        message = f"The plan {name!r} is no {encoding.upper()} text: {byte}."
        raise PlanError(message, remedy="Save it as UTF-8.") from error
