"""Reads the file of an agent type: front matter in the convention of Claude Code and ours, then a prompt.

Files from elsewhere are read as they are: a description with colons in it, tools as `A, B` or as a list, keys
that mean nothing to us. What is wrong is a finding with its line; a file with an error gives no agent type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, TypeAlias

import yaml

from orchestrator.agent_types import TOOLS, AgentLimits, AgentType
from orchestrator.core.task import GATE_POOL
from orchestrator.errors import Finding
from orchestrator.plan.amounts import duration_ms, money_micros
from orchestrator.plan.findings import Code
from orchestrator.routing.backends import BACKENDS, COMMAND

#: Backends that a file may name; `command` runs the lines of a plan, and no file makes it anything else.
_BACKENDS = tuple(name for name in BACKENDS if name != COMMAND)

NAME_CHARS_MAX = 64
_DESCRIPTION_CHARS_MAX = 20_000
_COUNT_MAX = 1_000_000

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_NAMED = re.compile(r"^name:[ \t]*([a-z0-9-]+)[ \t]*$", re.MULTILINE)
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
_LIMITS = ("sessions", "timeout", "idle_timeout", "turns", "cost")

#: A value of the front matter: a text, several, or those of a mapping by their keys; each with its line.
_Text: TypeAlias = tuple[str, int]
_Value: TypeAlias = _Text | list[_Text] | dict[str, _Text]


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
    reading = _Reading(file=file, models=models)
    try:
        agent_type = reading.agent_type(_text_of(content))
    except _Fault as fault:
        return fault.file(file, name=reading.name)
    return ReadFile(agent_type=agent_type, findings=tuple(reading.findings))


def read_fields(name: str, fields: Mapping[str, Any], *, file: str, models: Mapping[str, str]) -> ReadFile:
    """Read an agent type that is written as fields, `prompt` among them; nothing of it has a line."""
    head = {"name": name, **{key: value for key, value in fields.items() if key != "prompt"}}
    text = f"---\n{yaml.safe_dump(head, allow_unicode=True)}---\n{fields.get('prompt', '')}"
    read = read_agent_type(text, file=file, models=models)
    without_lines = {
        "lines": dict.fromkeys(read.agent_type.lines, 0),
        "fault": re.sub(rf"^{re.escape(file)}:\d+", file, read.agent_type.fault),
    }
    return ReadFile(
        agent_type=read.agent_type.model_copy(update=without_lines),
        findings=tuple(replace(finding, line=0) for finding in read.findings),
    )


def unreadable(file: str, error: OSError) -> ReadFile:
    """Return what is read of a file that cannot be."""
    message = f"The file cannot be read: {error.strerror or error}."
    return _Fault(0, message, "Mend its permissions, or remove it.").file(file, name="")


class _Fault(Exception):
    """An error in the file; caught where the file is read."""

    def __init__(self, line: int, message: str, remedy: str) -> None:
        super().__init__(message)
        self.line, self.message, self.remedy = line, message, remedy

    def file(self, file: str, *, name: str) -> ReadFile:
        """Return what is read of the file; its agent type is the one that it is called for, or had named."""
        name = name or file.rpartition("/")[2].removesuffix(".md").lower()
        fault = f"{file}:{self.line}: {self.message} {self.remedy}"
        finding = Code.AGENT_FILE.at(self.line, self.message, remedy=self.remedy, source=file)
        return ReadFile(agent_type=AgentType(name=name, file=file, fault=fault), findings=(finding,))


@dataclass(slots=True, kw_only=True)
class _Reading:
    """The reading of one file."""

    file: str
    models: Mapping[str, str]
    name: str = ""
    lines: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def agent_type(self, text: str) -> AgentType:
        named = _NAMED.search(text)
        self.name = named[1] if named else ""  # also if its line, or another, cannot be read
        head, prompt = _parts(text)
        fields = self._known(_mapping(head))
        self.name = _name(fields)
        values: dict[str, Any] = {"name": self.name, "prompt": prompt.strip(), "file": self.file}
        for name in ("domains", "keywords", "tracks"):
            if name in fields:
                values[name] = tuple(word for word, _ in _words(fields[name]))
        values["keywords"] = tuple(word.lower() for word in values.get("keywords", ()))
        values["description"] = self._description(fields)
        if "model" in fields:
            model, _ = _text("model", fields["model"])
            values["model"] = self.models.get(model, model)
        if "backend" in fields:
            values["backend"] = _one_of(_BACKENDS, "backend", fields["backend"])
        values["tools"] = self._tools(fields)
        values["limits"] = _limits(fields)
        return AgentType(**values, lines={name: self.lines[name] for name in fields})

    def _known(self, node: yaml.MappingNode) -> dict[str, _Value]:
        """Return the fields that mean something to us, those without a value left out."""
        found: dict[str, _Value] = {}
        for key_node, value_node in node.value:
            key, line = _scalar(key_node)
            name = _KEYS.get(_plain(key))
            if name is None:
                self._warn_of_slip(key, line)
                continue
            if name in self.lines:
                raise _Fault(line, f"`{key}` stands there twice.", "Keep one of them.")
            self.lines[name] = line
            value = _value(value_node)
            if not _is_empty(value):
                found[name] = value
        return found

    def _warn_of_slip(self, key: str, line: int) -> None:
        """A key of another tool is no fault; one that looks like ours may well be."""
        near = get_close_matches(_plain(key), _KEYS, n=1, cutoff=0.85)
        if near:
            self._warn(line, f"`{key}` means nothing here.", f"Write `{near[0]}` if that is meant.")

    def _description(self, fields: Mapping[str, _Value]) -> str:
        text, line = _text("description", fields.get("description", ("", 1)))
        if len(text) > _DESCRIPTION_CHARS_MAX:
            message = (
                f"The description has {len(text)} characters; at most {_DESCRIPTION_CHARS_MAX} are read."
            )
            raise _Fault(line, message, "Put the details into the text below the front matter.")
        return text

    def _tools(self, fields: Mapping[str, _Value]) -> tuple[str, ...]:
        """Return the tools that are listed and that there are; less is always safe, more never is."""
        wanted = _words(fields["tools"]) if "tools" in fields else [("*", 1)]
        found: set[str] = set()
        for tool, line in wanted:
            if tool == "*":
                found |= set(TOOLS)
            elif tool in TOOLS:
                found.add(tool)
            else:
                near = next(iter(get_close_matches(tool.title(), TOOLS, n=1, cutoff=0.75)), "")
                message = f"There is no tool `{tool}` here; sessions go without it."
                meant = f"Write `{near}` if that is meant." if near else f"There are {', '.join(TOOLS)}."
                self._warn(line, message, meant)
        denied = {tool for tool, _ in _words(fields.get("disallowed_tools", []))}
        return tuple(tool for tool in TOOLS if tool in found - denied)

    def _warn(self, line: int, message: str, remedy: str) -> None:
        self.findings.append(Code.AGENT_FILE_REMARK.at(line, message, remedy=remedy, source=self.file))


def decoded(content: bytes) -> str:
    """Return the text of a file; where it is not UTF-8, a mark stands that is told when it is read."""
    return content.decode("utf-8", errors="replace")


def _text_of(content: bytes | str) -> str:
    text = decoded(content) if isinstance(content, bytes) else content
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    before, mark, _ = text.partition("\ufffd")
    if mark:
        raise _Fault(before.count("\n") + 1, "The file is not UTF-8 text.", "Save it as UTF-8.")
    return text


def _parts(text: str) -> tuple[str, str]:
    """Return front matter and prompt; in front of the former stands an empty line, so that lines fit."""
    lines = text.split("\n")
    if not _FENCE.fullmatch(lines[0]):
        message = "The file does not start with front matter."
        raise _Fault(1, message, "Begin it with `---`, then `name: my-agent`, then `---`.")
    end = next((n for n, line in enumerate(lines) if n and _FENCE.fullmatch(line)), None)
    if end is None:
        raise _Fault(1, "The front matter has no end.", "Write `---` below its last field.")
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
        raise _Fault(line, f"The front matter is no YAML: {problem}.", remedy) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        message = f"The front matter is no YAML: {str(error).splitlines()[0]}."
        raise _Fault(1, message, "Remove control characters.") from error
    if node is None:
        raise _no_name(1)
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        raise _Fault(line, "The front matter has no fields.", "Write fields such as `name: my-agent`.")
    return node


def _value(node: yaml.Node) -> _Value:
    if isinstance(node, yaml.MappingNode):
        return {_scalar(key)[0]: _scalar(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_scalar(item) for item in node.value]
    return _scalar(node)


def _scalar(node: yaml.Node) -> _Text:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode):
        raise _Fault(line, "A list or fields stand where one word is expected.", "Write the word alone.")
    return (str(node.value), line)


def _line(value: _Value) -> int:
    """Return the line where a value begins; 1 for one that is empty."""
    if isinstance(value, tuple):
        return value[1]
    inner = value if isinstance(value, list) else list(value.values())
    return _line(inner[0]) if inner else 1


def _is_empty(value: _Value) -> bool:
    return isinstance(value, tuple) and not value[0].strip()


def _plain(key: str) -> str:
    return key.strip().lower().replace("-", "_").replace(" ", "_")


def _text(name: str, value: _Value) -> _Text:
    """Return a value without blanks around it, and its line."""
    if isinstance(value, tuple):
        return value[0].strip(), value[1]
    raise _Fault(_line(value), f"`{name}` is no text.", f"Write `{name}: ...` with one value.")


def _words(value: _Value) -> list[_Text]:
    """Return the words of a list, or of a text with commas between them."""
    if isinstance(value, dict):
        raise _Fault(_line(value), "A list is expected here.", "Write `[a, b]`, or `a, b`.")
    if isinstance(value, tuple):
        value = [(word, value[1]) for word in _between_commas(value[0])]
    return [(word.strip(), line) for word, line in value if word.strip()]


def _between_commas(text: str) -> Iterator[str]:
    """Yield the parts of `A, B(c, d)`: a comma in brackets is no end of one."""
    yield from re.findall(r"(?:[^,(]|\([^)]*\))+", text)


def _one_of(allowed: tuple[str, ...], name: str, value: _Value) -> str:
    text, line = _text(name, value)
    if text in allowed:
        return text
    raise _Fault(line, f"`{name}: {text}` is none of those that there are.", f"Write {' or '.join(allowed)}.")


def _no_name(line: int) -> _Fault:
    return _Fault(line, "The agent type has no name.", "Write `name: my-agent` in the front matter.")


def _name(fields: Mapping[str, _Value]) -> str:
    if "name" not in fields:
        raise _no_name(1)
    name, line = _text("name", fields["name"])
    if name == GATE_POOL:
        raise _Fault(line, f"`{GATE_POOL}` is the name under which gates run.", "Choose another name.")
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARS_MAX:
        kebab = "-".join(re.findall(r"[a-z0-9]+", name.lower()))[:NAME_CHARS_MAX].strip("-") or "my-agent"
        message = f"The name `{name}` is not in lower case with single dashes, or is too long."
        raise _Fault(line, message, f"Write `name: {kebab}`.")
    return name


def _limits(fields: Mapping[str, _Value]) -> AgentLimits:
    given = fields.get("limits", {})
    if not isinstance(given, dict):
        message = "`limits` has no fields."
        raise _Fault(
            _line(given), message, "Write below it, indented, `sessions: 2`, `timeout: 30m` or such."
        )
    found: dict[str, Any] = {"turns": _count("maxTurns", fields["turns"])} if "turns" in fields else {}
    for key, value in given.items():
        name = _plain(key)
        if name not in _LIMITS:
            raise _Fault(_line(value), f"There is no limit `{key}`.", f"There are {', '.join(_LIMITS)}.")
        if not _is_empty(value):
            found[_LIMIT_FIELDS[name]] = _LIMIT_READERS[name](key, value)
    return AgentLimits(**found)


def _count(name: str, value: _Value) -> int:
    text, line = _text(name, value)
    if not re.fullmatch(r"[0-9]{1,7}", text) or not 1 <= int(text) <= _COUNT_MAX:
        raise _Fault(line, f"`{name}: {text}` is no number from 1 on.", f"Write `{name}: 2` or such.")
    return int(text)


def _seconds(name: str, value: _Value) -> float:
    text, line = _text(name, value)
    time_ms = duration_ms(text)
    if not time_ms:
        raise _Fault(line, f"`{name}: {text}` is no time.", f"Write `{name}: 30m` or such.")
    return time_ms / 1000


def _micros(name: str, value: _Value) -> int:
    text, line = _text(name, value)
    micros = money_micros(text)
    if not micros:
        raise _Fault(line, f"`{name}: {text}` is no sum of US dollars.", f"Write `{name}: 2.50` or such.")
    return micros


_LIMIT_FIELDS = {
    "sessions": "sessions",
    "timeout": "timeout_s",
    "idle_timeout": "idle_timeout_s",
    "turns": "turns",
    "cost": "cost_micros",
}
_LIMIT_READERS: Mapping[str, Callable[[str, Any], int | float]] = {
    "sessions": _count,
    "timeout": _seconds,
    "idle_timeout": _seconds,
    "turns": _count,
    "cost": _micros,
}
