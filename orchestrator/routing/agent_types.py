"""The catalogue: the agent types of the package, of the home and of a plan, the later replacing the earlier.

A name that no file has is accepted all the same: it gets the defaults of `general-purpose`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Self

from orchestrator.agent_types import GENERAL, AgentType
from orchestrator.errors import Finding, NotFound
from orchestrator.routing.agent_files import ReadFile, decoded, read_agent_type, unreadable

#: The folder of the users' files, in ORCHESTRATOR_HOME and beside a plan.
AGENTS_FOLDER = "agents"

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

    def get(self, name: str) -> AgentType:
        """Return the agent type `name`; one that no file defines works like `general-purpose`."""
        found = self._by_name.get(name)
        return found or stand_in(self._by_name[GENERAL], name)

    def extended(self, files: Iterable[ReadFile]) -> Self:
        """Return a catalogue in which these files come on top."""
        files = tuple(files)
        findings = (finding for file in files for finding in file.findings)
        return type(self)(
            (*self.all, *(file.agent_type for file in files)), findings=(*self.findings, *findings)
        )


def stand_in(general: AgentType, name: str) -> AgentType:
    """Return what works under a name that no file defines."""
    return general.model_copy(update={"name": name, "keywords": (), "tracks": (), "domains": ()})


def load_catalogue(home: Path, *, models: Mapping[str, str]) -> Catalogue:
    """Read the agent types of the package and of `<home>/agents`; what is wrong is among its findings."""
    ours = resources.files("orchestrator.routing").joinpath("catalogue")
    package = _read_all(ours, label=PACKAGE, models=models)
    return Catalogue([]).extended(package).extended(read_folder(home / AGENTS_FOLDER, models=models))


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
    return [read_agent_type(text, file=file, models=models) for file, text in sorted(texts.items())]


def texts_beside(plan: Path) -> dict[str, str]:
    """Return the agent type files that a plan brings along: `agents/` in its folder, or beside its file.

    By their paths; one that cannot be read is left out, as if it were not there.
    """
    folder = (plan if plan.is_dir() else plan.absolute().parent) / AGENTS_FOLDER
    texts = {}
    for file in agent_type_files(folder):
        with contextlib.suppress(OSError):
            texts[str(folder.absolute() / file.name)] = decoded(file.read_bytes())
    return texts


def _read_all(folder: Traversable, *, label: str, models: Mapping[str, str]) -> list[ReadFile]:
    return [_read(file, name=f"{label}/{file.name}", models=models) for file in agent_type_files(folder)]


def _read(file: Traversable, *, name: str, models: Mapping[str, str]) -> ReadFile:
    try:
        return read_agent_type(file.read_bytes(), file=name, models=models)
    except OSError as error:
        return unreadable(name, error)


def agent_type_files(folder: Traversable) -> list[Traversable]:
    """Return the files of a folder that define agent types; a README is for people."""
    if not folder.is_dir():
        return []
    found = [
        file
        for file in folder.iterdir()
        if file.name.endswith(".md") and file.name.lower() != "readme.md" and file.is_file()
    ]
    return sorted(found, key=lambda file: file.name)
