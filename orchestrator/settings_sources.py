"""Where settings come from besides the arguments: the file and the environment; and what is wrong with them.

Names what an author can mend: the key, the place it was found in, and the nearest key that exists.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from orchestrator.errors import SettingsError

PREFIX = "ORCHESTRATOR_"
FILE_NAMES = ("settings.toml", "settings.json")

#: Variables that other programs share with us, by the setting they stand for.
WELL_KNOWN = {
    "DATABASE_URL": ("database", "url"),
    "DATABASE_URL_OWNER": ("database", "url_owner"),
    "DATABASE_URL_SERVICE": ("database", "url_service"),
    "DATABASE_URL_API": ("database", "url_api"),
    "DATABASE_URL_DIRECT": ("database", "url_direct"),
    "ANTHROPIC_API_KEY": ("anthropic", "api_key"),
    "ANTHROPIC_BASE_URL": ("anthropic", "base_url"),
    "OPENAI_API_KEY": ("openai", "api_key"),
    "OPENAI_BASE_URL": ("openai", "base_url"),
}


class WellKnownEnvironment(PydanticBaseSettingsSource):
    """Settings by the names of WELL_KNOWN; an empty variable counts as unset."""

    def __call__(self) -> dict[str, Any]:
        """Return what is set, nested by section."""
        found: dict[str, Any] = {}
        for variable, (section, key) in WELL_KNOWN.items():
            if value := os.environ.get(variable):
                found.setdefault(section, {})[key] = value
        return found

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Unused: the source is read as a whole."""
        return None, field_name, False


class SettingsFile(PydanticBaseSettingsSource):
    """The settings file: the one named, else the first of FILE_NAMES in the home, else nothing."""

    def __init__(self, settings_cls: type[BaseSettings], *, default_home: Callable[[], Path]) -> None:
        super().__init__(settings_cls)
        self._default_home = default_home

    def __call__(self) -> dict[str, Any]:
        """Return the content of the file, with its path as `file`.

        Raises:
            SettingsError: the named file is missing, or a file cannot be read or is malformed.
        """
        path = self._path()
        if path is None:
            return {}
        content = read_settings_file(path)
        if misplaced := {"home", "file"} & content.keys():
            raise SettingsError(
                f"{path} sets `{min(misplaced)}`, which decides where this file is looked for.",
                remedy="Remove it there and set ORCHESTRATOR_HOME or ORCHESTRATOR_SETTINGS instead.",
            )
        return content | {"file": path}

    def _path(self) -> Path | None:
        named = self.current_state.get("file") or self.current_state.get(f"{PREFIX}SETTINGS")
        if named:
            return Path(named).expanduser().absolute()
        home = Path(self.current_state.get("home") or self._default_home()).expanduser()
        return next((home / name for name in FILE_NAMES if (home / name).is_file()), None)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Unused: the source is read as a whole."""
        return None, field_name, False


def read_settings_file(path: Path) -> dict[str, Any]:
    """Return the content of a TOML or JSON settings file.

    Raises:
        SettingsError: the file is missing, unreadable, malformed, or not a table at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SettingsError(
            f"The settings file {path} cannot be read: {error.strerror}.",
            remedy="Mend --settings or ORCHESTRATOR_SETTINGS, or write one by `orchestrator init`.",
        ) from error
    except ValueError as error:
        raise SettingsError(f"{path} is malformed: {error}.", remedy="Mend the line it names.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path} holds no table of settings.", remedy="Write one object at the top.")
    return content


def known_keys(model: type[BaseModel], *, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every setting of `model`, sections before what they hold."""
    for name, field in model.model_fields.items():
        yield (*path, name)
        if _is_section(field.annotation):
            yield from known_keys(cast("type[BaseModel]", field.annotation), path=(*path, name))


def refuse_unknown_environment(model: type[BaseModel]) -> None:
    """Refuse a variable that was meant as a setting and is none.

    Meant as a setting is `ORCHESTRATOR_X__Y` with an unknown section, and a known name that lacks one of the
    two underscores; other variables with our prefix belong to others (Kubernetes makes some for a service).

    Raises:
        SettingsError: naming the nearest known variable.
    """
    known = {PREFIX + "__".join(path).upper(): path for path in known_keys(model)}
    sections = {name for name, path in known.items() if len(path) == 1}
    single = {name.replace("__", "_"): name for name, path in known.items() if len(path) > 1}
    for variable in os.environ:
        name = variable.upper()
        if not name.startswith(PREFIX) or name in known:
            continue
        is_nested = "__" in name and PREFIX + name.removeprefix(PREFIX).partition("__")[0] not in sections
        if is_nested or name in single:
            nearest = single.get(name) or _nearest(name, known)
            raise SettingsError(
                f"The environment variable {variable} is no setting.",
                remedy=f"Did you mean {nearest}?" if nearest else "Unset it.",
            )


def explain(error: ValidationError, model: type[BaseModel]) -> SettingsError:
    """Return what is wrong in the words of the settings: key, place, reason and remedy."""
    problems = [_explain_one(dict(item), model) for item in error.errors(include_url=False)]
    first_remedy = next((remedy for _, remedy in problems if remedy), "")
    return SettingsError(" ".join(message for message, _ in problems), remedy=first_remedy)


def _explain_one(problem: Mapping[str, Any], model: type[BaseModel]) -> tuple[str, str]:
    path = tuple(str(part) for part in problem["loc"])
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        known = [".".join(known) for known in known_keys(model)]
        leaves = {name.rpartition(".")[2]: name for name in known}
        nearest = _nearest(key, known) or leaves.get(_nearest(path[-1], leaves))
        return f"The setting `{key}` is unknown.", f"Did you mean `{nearest}`?" if nearest else "Remove it."
    value = "" if _is_secret(problem["input"], path, model) else f" = {problem['input']!r}"
    reason = problem["msg"].removeprefix("Value error, ")
    variable = PREFIX + "__".join(path).upper()
    place = f" (from {variable})" if variable in os.environ else ""
    return f"The setting `{key}`{value}{place} is refused: {reason}.", f"Mend `{key}`."


def _is_secret(value: object, path: tuple[str, ...], model: type[BaseModel]) -> bool:
    """Return whether showing `value` could show a secret; tables are never shown."""
    annotation: Any = model
    for part in path:
        fields = annotation.model_fields if _is_section(annotation) else {}
        annotation = fields[part].annotation if part in fields else None
    return annotation is SecretStr or isinstance(value, Mapping | BaseModel)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _nearest(name: str, known: Any) -> str:
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)), "")
