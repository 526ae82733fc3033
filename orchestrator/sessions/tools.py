"""The tools of a model session: a shell and the files of the workspace.

Each tool is a pydantic model: its docstring and fields are what the model reads, and its input is checked by
it. Rule: file tools touch nothing outside of the workspace, symbolic links resolved; a tool that fails tells
the model why and never ends the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.core.words import AttemptKind
from orchestrator.errors import EnvironmentFault
from orchestrator.ports import Transcript
from orchestrator.sessions.output import Excerpt
from orchestrator.sessions.report import Report, Review
from orchestrator.sessions.shell import Shell

_FILE_BYTES_MAX = 1_000_000
_RESULT_CHARS = 30_000
_TIMEOUT_S_MAX = 1_800.0


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Bash(_Input):
    """Run one command line with `sh -c` in the workspace and return its exit code and output.

    Every call starts a new shell, without standard input; what it leaves running is ended with it.
    """

    command: str = Field(min_length=1)
    timeout_s: float = Field(default=120.0, gt=0, le=_TIMEOUT_S_MAX)


class ReadFile(_Input):
    """Read a text file of the workspace; returns the wanted lines, each with its number."""

    path: str = Field(min_length=1)
    first_line: int = Field(default=1, ge=1)
    lines_max: int = Field(default=2_000, ge=1)


class WriteFile(_Input):
    """Write a whole text file of the workspace, replacing what was there; makes missing folders."""

    path: str = Field(min_length=1)
    content: str


class EditFile(_Input):
    """Replace `old` by `new` in a text file of the workspace. `old` must occur exactly once."""

    path: str = Field(min_length=1)
    old: str = Field(min_length=1)
    new: str


_TO_WORK: dict[str, type[BaseModel]] = {
    "bash": Bash,
    "read_file": ReadFile,
    "write_file": WriteFile,
    "edit_file": EditFile,
    "report": Report,
}
_TO_REVIEW: dict[str, type[BaseModel]] = {"bash": Bash, "read_file": ReadFile, "report": Review}


class ToolResult(NamedTuple):
    """What the model gets back for one call."""

    text: str
    is_error: bool = False


class ToolRefused(Exception):
    """Raised when a call cannot be carried out; the message is for the model."""


def tools_for(kind: AttemptKind) -> dict[str, type[BaseModel]]:
    """Return the tools of a session by name: who reviews changes no files."""
    return _TO_REVIEW if kind is AttemptKind.REVIEW else _TO_WORK


def tool_definitions(tools: Mapping[str, type[BaseModel]]) -> list[dict[str, object]]:
    """Return tools as the Messages API wants them: name, description and JSON schema of the input."""
    return [
        {
            "name": name,
            "description": " ".join((model.__doc__ or "").split()),
            "input_schema": {
                key: part for key, part in model.model_json_schema().items() if key != "description"
            },
        }
        for name, model in tools.items()
    ]


class Toolbox:
    """Carries out the tool calls of one session; keeps the report once it has come.

    Args:
        root: folder of the workspace.
        tools: those that it may call, by name.
        shell: for `bash`.
        transcript: gets a line per call.
    """

    def __init__(
        self, root: Path, *, tools: Mapping[str, type[BaseModel]], shell: Shell, transcript: Transcript
    ) -> None:
        self._root = root.resolve()
        self._tools = tools
        self._shell = shell
        self._transcript = transcript
        self.report: Report | Review | None = None

    async def call(self, name: str, arguments: object) -> ToolResult:
        """Carry out one call. What is wrong with it becomes an error result."""
        try:
            if name not in self._tools:
                raise ToolRefused(f"There is no tool {name!r}; there are {', '.join(self._tools)}.")
            request = self._tools[name].model_validate(arguments)
            self._transcript.write("tool", f"{name}: {_headline(request)}\n")
            return ToolResult(await self._carry_out(request))
        except ValidationError as error:
            return self._failed(f"Invalid input for {name}: {explain(error)}")
        except (ToolRefused, EnvironmentFault) as error:
            return self._failed(str(error))
        except (OSError, UnicodeDecodeError) as error:
            return self._failed(f"{name} failed: {error}")

    def _failed(self, text: str) -> ToolResult:
        self._transcript.write("tool", f"error: {text}\n")
        return ToolResult(text, is_error=True)

    async def _carry_out(self, request: BaseModel) -> str:
        # Files are small and read and written in place: a thread could still write after a cancel.
        match request:
            case Bash():
                return await self._bash(request)
            case ReadFile():
                return self._read(request)
            case WriteFile():
                return self._write(request)
            case EditFile():
                return self._edit(request)
            case Report() | Review():
                self.report = request
                return "The report is recorded."
        raise AssertionError(f"no way to carry out {type(request).__name__}")

    async def _bash(self, request: Bash) -> str:
        excerpt = Excerpt(head_max=_RESULT_CHARS // 2, tail_max=_RESULT_CHARS // 2)
        limit = asyncio.timeout(request.timeout_s)
        try:
            async with limit:
                code = await self._shell.run(request.command, excerpt=excerpt)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ToolRefused(
                f"The command was ended: it took longer than {request.timeout_s:g} s.\n{excerpt.text}"
            ) from None
        return f"exit code {code}\n{excerpt.text}"

    def _read(self, request: ReadFile) -> str:
        text = self._text_of(self._inside(request.path))
        lines = text.splitlines()
        first = request.first_line
        wanted = lines[first - 1 : first - 1 + request.lines_max]
        if not wanted:
            return f"{request.path} has {len(lines)} lines."
        excerpt = Excerpt(head_max=_RESULT_CHARS, tail_max=0)
        excerpt.add("\n".join(f"{number}\t{line}" for number, line in enumerate(wanted, start=first)))
        return excerpt.text

    def _write(self, request: WriteFile) -> str:
        path = self._inside(request.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(request.content, encoding="utf-8")
        return f"Wrote {len(request.content)} characters to {request.path}."

    def _edit(self, request: EditFile) -> str:
        path = self._inside(request.path)
        text = self._text_of(path)
        count = text.count(request.old)
        if count != 1:
            raise ToolRefused(f"`old` occurs {count} times in {request.path}; it must occur exactly once.")
        path.write_text(text.replace(request.old, request.new), encoding="utf-8")
        return f"Edited {request.path}."

    def _inside(self, name: str) -> Path:
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root):
            raise ToolRefused(f"{name} is outside of the workspace; give a path inside of it.")
        if path.exists() and not path.is_file():
            raise ToolRefused(f"{name} is not a regular file.")
        return path

    def _text_of(self, path: Path) -> str:
        name = path.relative_to(self._root)
        if not path.exists():
            raise ToolRefused(f"{name} does not exist.")
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise ToolRefused(
                f"{name} is larger than {_FILE_BYTES_MAX:,} bytes; use bash to look at parts of it."
            )
        return path.read_bytes().decode()  # keeps line ends as they are


def _headline(request: BaseModel) -> str:
    """The first field says what the call is about: the command, the path, the status."""
    return str(getattr(request, next(iter(type(request).model_fields))))


def explain(error: ValidationError) -> str:
    """Return what is wrong with an input, for the model that gave it."""
    return "; ".join(
        f"{'.'.join(map(str, part['loc'])) or 'input'}: {part['msg']}" for part in error.errors()
    )
