"""The catalogue: agent types of package, home, settings and plan, the later replacing the earlier.

A name that no file has is accepted all the same: its sessions work by `general-purpose`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Self

from orchestrator.agent_types import AgentType
from orchestrator.errors import Finding, NotFound
from orchestrator.plan.files import AGENTS_FOLDER, agent_type_files
from orchestrator.plan.findings import Code
from orchestrator.routing.agent_files import ReadFile, read_agent_type, read_fields, unreadable
from orchestrator.routing.tables import load_tables
from orchestrator.settings import Settings

#: What the files of the package are called, for people.
PACKAGE = "package"


class Catalogue:
    """All agent types, by name.

    Args:
        agent_types: a later one replaces an earlier one of the same name, also one that has a fault.
        findings: what is wrong with their files.

    Attributes:
        all: those with a fault too; they are neither iterated over nor found otherwise.
    """

    def __init__(self, agent_types: Iterable[AgentType], *, findings: Iterable[Finding] = ()) -> None:
        found: dict[str, AgentType] = {}
        for agent_type in agent_types:
            found.pop(agent_type.name, None)  # its place is that of the later one
            found[agent_type.name] = agent_type
        self.all = tuple(found.values())
        self.findings = tuple(findings)
        self._by_name = {name: agent_type for name, agent_type in found.items() if not agent_type.fault}

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[AgentType]:
        return iter(self._by_name.values())

    def extended(self, files: Iterable[ReadFile]) -> Self:
        """Return a catalogue in which these files come on top."""
        files = tuple(files)
        findings = (finding for file in files for finding in file.findings)
        return type(self)(
            (*self.all, *(file.agent_type for file in files)), findings=(*self.findings, *findings)
        )


def load_catalogue(settings: Settings) -> Catalogue:
    """Read the agent types of package, home and settings; what is wrong is among its findings."""
    models = load_tables(settings.routing).models
    ours = resources.files("orchestrator.routing").joinpath("catalogue")
    package = _read_all(ours, label=PACKAGE, models=models)
    home = read_folder(settings.home / AGENTS_FOLDER, models=models)
    set_ = [
        read_fields(name, fields, file=f"settings, routing.agent_types.{name}", models=models)
        for name, fields in settings.routing.agent_types.items()
    ]
    return Catalogue([]).extended(package).extended(home).extended(set_)


def read_folder(folder: Path, *, models: Mapping[str, str]) -> list[ReadFile]:
    """Read the agent type files of a folder, in the order of their names; none if there is no folder."""
    return _read_all(folder, label=str(folder), models=models)


def read_path(path: Path, *, models: Mapping[str, str]) -> list[ReadFile]:
    """Read an agent type file, or those of a folder.

    Raises:
        NotFound: there is neither.
    """
    if path.is_dir():
        return read_folder(path, models=models)
    if not path.exists():
        raise NotFound(f"There is no file {str(path)!r}.", remedy="Name an agent type file, or a folder.")
    return [_read(path, name=str(path), models=models)]


def read_texts(texts: Mapping[str, str], *, models: Mapping[str, str]) -> list[ReadFile]:
    """Read agent type files that came as text, by their paths."""
    return _of_one_folder(
        read_agent_type(text, file=file, models=models) for file, text in sorted(texts.items())
    )


def _read_all(folder: Traversable, *, label: str, models: Mapping[str, str]) -> list[ReadFile]:
    return _of_one_folder(
        _read(file, name=f"{label}/{file.name}", models=models) for file in agent_type_files(folder)
    )


def _of_one_folder(files: Iterable[ReadFile]) -> list[ReadFile]:
    """Remark on each file that has no effect, because a later one defines an agent type of the same name."""
    files = list(files)
    effective = {file.agent_type.name: file for file in files}
    return [_remarked(file, effective[file.agent_type.name]) for file in files]


def _remarked(file: ReadFile, effective: ReadFile) -> ReadFile:
    if file is effective:
        return file
    agent_type, other = file.agent_type, effective.agent_type.file
    message = f"The file has no effect: {other} defines `{agent_type.name}` too, and comes later."
    remark = Code.AGENT_FILE_REMARK.at(
        agent_type.lines.get("name", 1),
        message,
        remedy="Give one of them another name, or remove it.",
        source=agent_type.file,
    )
    return replace(file, findings=(*file.findings, remark))


def _read(file: Traversable, *, name: str, models: Mapping[str, str]) -> ReadFile:
    try:
        return read_agent_type(file.read_bytes(), file=name, models=models)
    except OSError as error:
        return unreadable(name, error)
