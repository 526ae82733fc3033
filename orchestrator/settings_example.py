"""The settings file as it may be written: every key with its meaning and its default."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydantic import BaseModel, SecretStr

from orchestrator.settings import Settings


def settings_example() -> str:
    """Return a settings file with every key, its meaning and, commented out, its default."""
    head = (
        "# Settings of the CODITECT Task Orchestrator. Lines such as `#port = 8000` show the defaults:\n"
        "# remove the # to change one. The environment wins over this file, for example\n"
        "# ORCHESTRATOR_HTTP__PORT=8001 over `port` of [http].\n"
    )
    sections = {name: field for name, field in Settings.model_fields.items() if name not in ("home", "file")}
    return head + "".join(_example(field.get_default(), name=name) for name, field in sections.items())


def _example(section: BaseModel, *, name: str) -> str:
    """Return `section` as a TOML table with every key commented out, its own sections last."""
    lines = [f"\n# {type(section).__doc__}\n[{name}]\n"]
    tables = []
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, BaseModel):
            tables.append(_example(value, name=f"{name}.{key}"))
            continue
        if field.description:
            lines.append(f"# {field.description}\n")
        lines += [f"#{line}\n" for line in _toml_lines(key, value)]
    return "".join(lines + tables)


def _toml_lines(key: str, value: object) -> list[str]:
    """Return `key = value` in TOML; a table of sections takes one line for each."""
    if isinstance(value, Mapping) and value and all(isinstance(item, BaseModel) for item in value.values()):
        return [f"{key}.{_key(name)} = {_toml(item)}" for name, item in value.items()]
    return [f"{key} = {_toml(value)}"]


def _key(name: str) -> str:
    """Return a key in TOML: in quotes if a dot or the like is in it."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _toml(value: object) -> str:
    """Return `value` as TOML; what JSON writes for numbers, strings and lists is TOML too."""
    if isinstance(value, SecretStr):
        return '""'
    if isinstance(value, BaseModel):
        return _toml(value.model_dump())
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
