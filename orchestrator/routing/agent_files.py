"""Reads the file of an agent type: front matter in the convention of Claude Code and ours, then a prompt.

Files from elsewhere are read as they are: a description with colons in it, tools as `A, B` or as a list, keys
that mean nothing to us. All that is wrong is found, with its line; a file with an error gives no agent type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import yaml

from orchestrator.agent_types import TOOLS, AgentLimits, AgentType
from orchestrator.errors import Finding
from orchestrator.plan.findings import Code
from orchestrator.routing.agent_fields import (
    LIMITS,
    Fault,
    Text,
    Value,
    count_of,
    description_of,
    is_empty,
    limit_of,
    mapping_of,
    meant_name,
    name_of,
    no_name,
    one_of,
    plain,
    text_of,
    words_of,
)
from orchestrator.routing.backends import BACKENDS, COMMAND

#: Backends that a file may name; `command` runs the lines of a plan, and no file makes it anything else.
_BACKENDS = tuple(name for name in BACKENDS if name != COMMAND)

_NAMED = re.compile(r"^name:(.+)$", re.MULTILINE)
_FENCE = re.compile(r"---[ \t]*")
#: A description on one line, unquoted: what stands there is meant, whatever it would be in YAML.
_PLAIN_DESCRIPTION = re.compile(r"^description:[ \t]+(?![\"'|>\[{&*!])(\S.*)$(?!\n[ \t])", re.MULTILINE)

#: Keys as they are written, in lower case with `_`, by what is meant.
_KEYS = {
    "name": "name",
    "description": "description",
    "domain": "domains",
    "domains": "domains",
    "keywords": "keywords",
    "track": "tracks",
    "tracks": "tracks",
    "default_track": "tracks",
    "backend": "backend",
    "model": "model",
    "tools": "tools",
    "disallowedtools": "disallowed_tools",
    "maxturns": "turns",
    "limits": "limits",
}

#: What helps, by words of what the YAML parser says.
_YAML_REMEDIES = {
    "mapping values": "Put a value that has `: ` in it in quotes.",
    "\\t": "Indent by blanks, not by tabs.",
    "alias": "Put a value that begins with `*` in quotes.",
}
_YAML_REMEDY = "Correct this line or the one above it."


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """What a file says; with an error among the findings the agent type is one with a fault."""

    agent_type: AgentType
    findings: tuple[Finding, ...]


def read_agent_type(content: bytes | str, *, file: str, models: Mapping[str, str]) -> ReadFile:
    """Read the file of an agent type.

    Args:
        file: path by which findings and people know it.
        models: ids of models by the short names that files may use for them.
    """
    return _Reading(file=file, models=models).read(content)


def read_fields(name: str, fields: Mapping[str, Any], *, file: str, models: Mapping[str, str]) -> ReadFile:
    """Read an agent type that is written as fields, `prompt` among them; nothing of it has a line."""
    head = {"name": name, **{key: value for key, value in fields.items() if key != "prompt"}}
    text = f"---\n{yaml.safe_dump(head, allow_unicode=True)}---\n{fields.get('prompt', '')}"
    read = read_agent_type(text, file=file, models=models)
    without_lines = {
        "lines": dict.fromkeys(read.agent_type.lines, 0),
        "fault": read.agent_type.fault.replace(f"{file}:{read.findings[0].line}", file, 1)
        if read.agent_type.fault
        else "",
    }
    return ReadFile(
        agent_type=read.agent_type.model_copy(update=without_lines),
        findings=tuple(replace(finding, line=0) for finding in read.findings),
    )


def unreadable(file: str, error: OSError) -> ReadFile:
    """Return what is read of a file that cannot be."""
    message = f"The file cannot be read: {error.strerror or error}."
    reading = _Reading(file=file, models={})
    reading.faults.append(Fault(0, message, "Mend its permissions, or remove it."))
    return reading.faulty()


@dataclass(slots=True, kw_only=True)
class _Reading:
    """The reading of one file."""

    file: str
    models: Mapping[str, str]
    name: str = ""
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)

    def read(self, content: bytes | str) -> ReadFile:
        """Return the agent type with what is remarked, or one with a fault and all that is wrong."""
        agent_type = None
        with self._telling():
            agent_type = self._agent_type(_text_of(content))
        if self.faults or agent_type is None:
            return self.faulty()
        return ReadFile(agent_type=agent_type, findings=tuple(self.remarks))

    def faulty(self) -> ReadFile:
        """Return an agent type of which the name alone is known: what it is called, or else its file."""
        faults = sorted(self.faults, key=lambda fault: fault.line)
        first, others = faults[0], len(faults) - 1
        more = f" (and {others} more; `orchestrator agents check` tells them)" if others else ""
        found = (
            Code.AGENT_FILE.at(fault.line, fault.message, remedy=fault.remedy, source=self.file)
            for fault in faults
        )
        agent_type = AgentType(
            name=self.name or self.file.rpartition("/")[2].removesuffix(".md").lower(),
            file=self.file,
            fault=f"{self.file}:{first.line}: {first.message} {first.remedy}{more}",
        )
        return ReadFile(agent_type=agent_type, findings=(*found, *self.remarks))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Note what is wrong with a part, so that the others are read as well."""
        try:
            yield
        except Fault as fault:
            self.faults.append(fault)

    def _agent_type(self, text: str) -> AgentType:
        named = _NAMED.search(text)
        self.name = meant_name(named[1]) if named else ""  # also if its line, or another, cannot be read
        head, prompt = _parts(text)
        fields = self._known(_mapping(head))
        with self._telling():
            self.name = name_of(fields.get("name"))
        values = self._values(fields)
        lines = {name: self.lines[name] for name in fields}
        return AgentType(**values, name=self.name, prompt=prompt.strip(), file=self.file, lines=lines)

    def _known(self, node: yaml.MappingNode) -> dict[str, Value]:
        """Return the fields that mean something to us, those without a value left out."""
        found: dict[str, Value] = {}
        for key_node, value_node in node.value:
            with self._telling():
                key, line = _scalar(key_node)
                name = _KEYS.get(plain(key))
                if name is None:
                    self._remark_on_key(key, line)
                    continue
                if name in self.lines:
                    raise Fault(line, f"`{key}` stands there twice.", "Keep one of them.")
                self.lines[name] = line
                value = _value(value_node)
                if not is_empty(value):
                    found[name] = value
        return found

    def _remark_on_key(self, key: str, line: int) -> None:
        """A key of another tool is no fault; one that looks like ours, or is out of place, may well be."""
        near = get_close_matches(plain(key), _KEYS, n=1, cutoff=0.85)
        if plain(key) in LIMITS:
            self._remark(line, f"`{key}` is a limit, and means nothing here.", "Write it below `limits:`.")
        elif near:
            self._remark(line, f"`{key}` means nothing here.", f"Write `{near[0]}` if that is meant.")

    def _values(self, fields: Mapping[str, Value]) -> dict[str, Any]:
        """Return what the fields give, of those that can be read."""
        readers: Mapping[str, Callable[[Value], Any]] = {
            "description": description_of,
            "domains": _words,
            "keywords": lambda value: tuple(word.lower() for word in _words(value)),
            "tracks": _words,
            "backend": lambda value: one_of(_BACKENDS, "backend", value),
            "model": self._model,
        }
        values: dict[str, Any] = {"limits": self._limits(fields)}
        for name in readers.keys() & fields.keys():
            with self._telling():
                values[name] = readers[name](fields[name])
        with self._telling():
            values["tools"] = self._tools(fields)
        return values

    def _model(self, value: Value) -> str:
        model, _ = text_of("model", value)
        return self.models.get(model, model)

    def _tools(self, fields: Mapping[str, Value]) -> tuple[str, ...]:
        """Return the tools that are listed and that there are; less is always safe, more never is."""
        wanted = words_of(fields["tools"]) if "tools" in fields else [("*", 1)]
        if not wanted:
            remedy = "Leave `tools` out for all that there are, or list those that are meant."
            raise Fault(self.lines["tools"], "`tools` is empty: sessions could do nothing at all.", remedy)
        found: set[str] = set()
        for tool, line in wanted:
            if tool == "*":
                found |= set(TOOLS)
            elif tool in TOOLS:
                found.add(tool)
            else:
                near = _near_tool(tool)
                message = f"There is no tool `{tool}` here; sessions go without it."
                meant = f"Write `{near}` if that is meant." if near else f"There are {', '.join(TOOLS)}."
                self._remark(line, message, meant)
        found -= self._denied(fields)
        return tuple(tool for tool in TOOLS if tool in found)

    def _denied(self, fields: Mapping[str, Value]) -> set[str]:
        """Return the tools that are taken away; of one that is denied in part, nothing is left."""
        denied: set[str] = set()
        for tool, line in words_of(fields.get("disallowed_tools", [])):
            name = tool.partition("(")[0].strip()
            if name in TOOLS:
                denied.add(name)
                if name != tool:
                    message = f"`{tool}` is a part of a tool; sessions go without all of `{name}`."
                    self._remark(line, message, f"Write `{name}` if that is meant, else leave it out.")
            elif near := _near_tool(name):
                message = f"There is no tool `{tool}` here; nothing is denied."
                self._remark(line, message, f"Write `{near}` if that is meant.")
        return denied

    def _limits(self, fields: Mapping[str, Value]) -> AgentLimits:
        found: dict[str, Any] = {}
        with self._telling():
            if "turns" in fields:
                found["turns"] = count_of("maxTurns", fields["turns"])
        with self._telling():
            for key, value in mapping_of("limits", fields.get("limits", {})).items():
                with self._telling():
                    if not is_empty(value):
                        name, most = limit_of(key, value)
                        found[name] = most
        return AgentLimits(**found)

    def _remark(self, line: int, message: str, remedy: str) -> None:
        self.remarks.append(Code.AGENT_FILE_REMARK.at(line, message, remedy=remedy, source=self.file))


def _near_tool(name: str) -> str:
    """Return the tool whose name looks like this one; empty if none does."""
    return next(iter(get_close_matches(name.title(), TOOLS, n=1, cutoff=0.75)), "")


def _words(value: Value) -> tuple[str, ...]:
    return tuple(word for word, _ in words_of(value))


def _text_of(content: bytes | str) -> str:
    text = content.decode("utf-8", errors="replace") if isinstance(content, bytes) else content
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    before, mark, _ = text.partition("\ufffd")
    if mark:
        raise Fault(before.count("\n") + 1, "The file is not UTF-8 text.", "Save it as UTF-8.")
    return text


def _parts(text: str) -> tuple[str, str]:
    """Return front matter and prompt; in front of the former stands an empty line, so that lines fit."""
    lines = text.split("\n")
    if not _FENCE.fullmatch(lines[0]):
        message = "The file does not start with front matter."
        raise Fault(1, message, "Begin it with `---`, then `name: my-agent`, then `---`.")
    end = next((n for n, line in enumerate(lines) if n and _FENCE.fullmatch(line)), None)
    if end is None:
        raise Fault(1, "The front matter has no end.", "Write `---` below its last field.")
    return "\n" + "\n".join(lines[1:end]), "\n".join(lines[end + 1 :])


def _mapping(head: str) -> yaml.MappingNode:
    quoted = _PLAIN_DESCRIPTION.sub(
        lambda match: f"description: {json.dumps(match[1].strip(), ensure_ascii=False)}", head
    )
    try:
        node = yaml.compose(quoted, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = error.problem or "it cannot be read"
        remedy = next((known for words, known in _YAML_REMEDIES.items() if words in problem), _YAML_REMEDY)
        raise Fault(line, f"The front matter is no YAML: {problem}.", remedy) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        message = f"The front matter is no YAML: {str(error).splitlines()[0]}."
        raise Fault(1, message, "Remove control characters.") from error
    if node is None:
        raise no_name()
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        raise Fault(line, "The front matter has no fields.", "Write fields such as `name: my-agent`.")
    return node


def _value(node: yaml.Node) -> Value:
    if isinstance(node, yaml.MappingNode):
        return {_scalar(key)[0]: _scalar(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_scalar(item) for item in node.value]
    return _scalar(node)


def _scalar(node: yaml.Node) -> Text:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode):
        raise Fault(line, "A list or fields stand where one word is expected.", "Write the word alone.")
    return (str(node.value), line)
