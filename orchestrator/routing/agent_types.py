"""Agent types: what each does, which words point to it, which model and tools it has. One Markdown file each.

The files of the package come first; files of the same shape in `<home>/agents` add types and replace ours.
A name that no file has is accepted all the same: it gets the defaults of `general-purpose`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from orchestrator.core.task import GATE_POOL
from orchestrator.errors import SettingsError
from orchestrator.ports import TOOLS

GENERAL = "general-purpose"
NAME_CHARS_MAX = 64
_FRONT_MATTER = re.compile(r"\A---\s*\n(?P<head>.*?)\n---\s*\n?(?P<body>.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentType:
    """A kind of agent.

    Attributes:
        domains: fields of work, in the words of plan/classify.py.
        keywords: words of a task's title that point to it, lower case.
        backend: of its work that no `run:` line says, where the plan leaves the choice: `auto`, `simulated`,
            `anthropic` or `claude-code`.
        model: id of the model; empty = the default of the settings.
        tools: those of `ports.TOOLS` that it may use.
        prompt: who the agent is and how it works, for the model.
    """

    name: str
    description: str = ""
    domains: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    backend: str = "auto"
    model: str = ""
    tools: tuple[str, ...] = TOOLS
    prompt: str = ""


def _as_words(value: Any) -> Any:
    """Accept `a, b` where a list is meant, as agent type files in the wild write it."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


_Words = Annotated[tuple[str, ...], BeforeValidator(_as_words)]


class _FrontMatter(BaseModel):
    """The head of an agent type file; keys of other tools are allowed and ignored."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=NAME_CHARS_MAX)
    description: str = Field(default="", max_length=1024)
    domains: _Words = Field(default=(), validation_alias=AliasChoices("domains", "domain"))
    keywords: _Words = ()
    backend: Literal["auto", "simulated", "anthropic", "claude-code"] = "auto"
    model: str = ""
    tools: _Words = TOOLS


class Catalogue:
    """All agent types, by name.

    Args:
        agent_types: a later one replaces an earlier one of the same name.
    """

    def __init__(self, agent_types: Iterable[AgentType]) -> None:
        self._by_name = {agent_type.name: agent_type for agent_type in agent_types}

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[AgentType]:
        return iter(self._by_name.values())

    def get(self, name: str) -> AgentType:
        """Return the agent type `name`; one that no file defines works like `general-purpose`."""
        found = self._by_name.get(name)
        return found or replace(self._by_name[GENERAL], name=name, keywords=())


def load_catalogue(home: Path, *, models: Mapping[str, str]) -> Catalogue:
    """Read the agent types of the package and of `<home>/agents`.

    Args:
        models: ids of models by the short names that files may use for them.

    Raises:
        SettingsError: a file cannot be read or its head is malformed.
    """
    ours = resources.files("orchestrator.routing").joinpath("catalogue")
    folders: list[Traversable] = [ours, home / "agents"]
    files = [file for folder in folders for file in _agent_type_files(folder)]
    return Catalogue(_read_agent_type(file, models=models) for file in files)


def _agent_type_files(folder: Traversable) -> list[Traversable]:
    if not folder.is_dir():
        return []
    found = [file for file in folder.iterdir() if file.name.endswith(".md") and file.is_file()]
    return sorted(found, key=lambda file: file.name)


def _read_agent_type(file: Traversable, *, models: Mapping[str, str]) -> AgentType:
    try:
        match = _FRONT_MATTER.match(file.read_text(encoding="utf-8"))
        if match is None:
            raise ValueError("it does not start with front matter between two lines of `---`")
        head = _FrontMatter.model_validate(yaml.safe_load(match["head"]))
        if head.name == GATE_POOL:
            raise ValueError(f"`{GATE_POOL}` is the name under which gates run")
        if unknown := next((tool for tool in head.tools if tool not in TOOLS), None):
            raise ValueError(f"there is no tool `{unknown}`; there are {', '.join(TOOLS)}")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(
            f"The agent type file {file} is malformed: {_reason(error)}.",
            remedy="Give it front matter with at least `name: my-agent` in kebab-case.",
        ) from error
    return AgentType(
        name=head.name,
        description=head.description,
        domains=head.domains,
        keywords=tuple(keyword.lower() for keyword in head.keywords),
        backend=head.backend,
        model=models.get(head.model, head.model),
        tools=head.tools,
        prompt=match["body"].strip(),
    )


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    return f"`{'.'.join(str(part) for part in first['loc'])}`: {first['msg']}"
