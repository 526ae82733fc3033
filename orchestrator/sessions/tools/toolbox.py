"""The tools of a model session: a shell, the files of the workspace, the notes of the plan, the report.

Each tool is a pydantic model: its docstring and fields are what the model reads, and its input is checked by
it. Rule: a tool that fails tells the model why and never ends the session. What only reads may run side by
side; everything else runs in the order in which the model called it.
"""

from __future__ import annotations

import asyncio
import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.core.words import AttemptKind
from orchestrator.errors import EnvironmentFault
from orchestrator.file_owner import acting_as
from orchestrator.ports import Assignment, Launcher, NoteBook, Transcript, Workspace
from orchestrator.sessions.output import Excerpt
from orchestrator.sessions.programs import Programs
from orchestrator.sessions.report import Report, Review
from orchestrator.sessions.shell import Shell
from orchestrator.sessions.tools.files import UNSEARCHED, Files, ToolRefused
from orchestrator.sessions.tools.notes import Notes, use_notes
from orchestrator.sessions.tools.persistent_shell import PersistentShell

_RESULT_CHARS = 30_000
_TIMEOUT_S_MAX = 1_800.0
_GREP_S_MAX = 60.0
_GREP_LINES_PER_FILE = 100


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Bash(_Input):
    """Run a command line in the shell of this session and return its exit code and output.

    It is one shell for all calls: folder, variables, functions and background processes stay, until the
    session ends or a command takes longer than its timeout. Commands have no standard input.
    """

    command: str = Field(min_length=1)
    timeout_s: float = Field(default=120.0, gt=0, le=_TIMEOUT_S_MAX)


class ReadFile(_Input):
    """Read a text file of the workspace, each line with its number, or list a folder."""

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


class InsertLines(_Input):
    """Insert lines into a text file of the workspace after the given line; 0 is the beginning."""

    path: str = Field(min_length=1)
    after_line: int = Field(ge=0)
    text: str = Field(min_length=1)


class Glob(_Input):
    """Find files of the workspace by a pattern of their paths, such as `src/**/*.py`."""

    pattern: str = Field(min_length=1)


class Grep(_Input):
    """Find lines of the workspace's text files by an extended regular expression."""

    pattern: str = Field(min_length=1)
    path: str = Field(default=".", min_length=1, description="File or folder to search.")
    files: str = Field(default="", description="Only files with such names, for example `*.py`.")
    ignore_case: bool = False


Tools = Mapping[str, type[BaseModel]]

_READERS: Tools = {"read_file": ReadFile, "glob": Glob, "grep": Grep}
_TO_WORK: Tools = MappingProxyType(
    {
        "bash": Bash,
        **_READERS,
        "write_file": WriteFile,
        "edit_file": EditFile,
        "insert_lines": InsertLines,
        "notes": Notes,
        "report": Report,
    }
)
_TO_REVIEW: Tools = MappingProxyType({"bash": Bash, **_READERS, "notes": Notes, "report": Review})

#: The name of `agent_types.TOOLS` by which an agent type lists a tool; the others are every session's.
_LISTED_AS = MappingProxyType(
    {
        "bash": "Bash",
        "read_file": "Read",
        "glob": "Glob",
        "grep": "Grep",
        "write_file": "Write",
        "edit_file": "Edit",
        "insert_lines": "Edit",
    }
)


class Call(NamedTuple):
    """What the model wants done."""

    name: str
    arguments: object


class ToolResult(NamedTuple):
    """What the model gets back for one call."""

    text: str
    is_error: bool = False


def tools_for(assignment: Assignment) -> Tools:
    """Return the tools of a session by name: what its agent type may use; who reviews changes no files."""
    tools = _TO_REVIEW if assignment.kind is AttemptKind.REVIEW else _TO_WORK
    return {
        name: model
        for name, model in tools.items()
        if name not in _LISTED_AS or _LISTED_AS[name] in assignment.tools
    }


def tool_definitions(tools: Tools) -> list[dict[str, Any]]:
    """Return tools as the Messages API wants them: name, description and JSON schema of the input."""
    return [
        {
            "name": name,
            "description": " ".join((model.__doc__ or "").split()),
            "input_schema": _schema_of(model),
        }
        for name, model in tools.items()
    ]


@lru_cache
def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    return {key: part for key, part in model.model_json_schema().items() if key != "description"}


class Toolbox:
    """Carries out the tool calls of one session; an async context manager that ends its shell.

    Args:
        launcher: starts the programs.
        notes: of the plan.
        assignment: whose tools, token and limits hold.
        workspace: their folder and environment.
        transcript: gets a line per call, and what programs print.
        touch: called at every sign of life.

    Attributes:
        report: of the model, once it has come.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        notes: NoteBook,
        assignment: Assignment,
        workspace: Workspace,
        transcript: Transcript,
        touch: Callable[[], None],
    ) -> None:
        self._notes = notes
        self._token = assignment.token
        self._programs = Programs(
            launcher=launcher,
            workspace=workspace,
            assignment=assignment,
            transcript=transcript,
            touch=touch,
        )
        self._tools = tools_for(assignment)
        self._files = Files(workspace.path)
        self._owner = workspace.owner
        self._shell = PersistentShell(self._programs)
        self._transcript = transcript
        self._touch = touch
        self.report: Report | Review | None = None

    async def __aenter__(self) -> Toolbox:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._shell.close()

    async def call_all(self, calls: Sequence[Call]) -> list[ToolResult]:
        """Carry out the calls of one answer: those that read and follow one another at the same time."""
        results: list[ToolResult] = []
        for reads, group in itertools.groupby(calls, key=lambda call: call.name in _READERS):
            if reads:
                results += await asyncio.gather(*map(self._call, group))
            else:
                results += [await self._call(call) for call in group]
        return results

    async def _call(self, call: Call) -> ToolResult:
        """Carry out one call. What is wrong with it becomes an error result."""
        name = call.name
        try:
            if name not in self._tools:
                raise ToolRefused(f"There is no tool {name!r}; there are {', '.join(self._tools)}.")
            request = self._tools[name].model_validate(call.arguments)
            self._transcript.write("tool", f"{name}: {_headline(request)}\n")
            return ToolResult(await self._carry_out(request))
        except ValidationError as error:
            return self._failed(f"Invalid input for {name}: {explain(error)}")
        except (ToolRefused, EnvironmentFault) as error:
            return self._failed(str(error))
        except (OSError, UnicodeDecodeError) as error:
            return self._failed(f"{name} failed: {error}")
        finally:
            self._touch()

    def _failed(self, text: str) -> ToolResult:
        self._transcript.write("tool", f"error: {text}\n")
        return ToolResult(text, is_error=True)

    def _as_owner(self, use: Callable[..., str], *arguments: object, **named: object) -> str:
        """Use the files with the rights of their owner."""
        with acting_as(self._owner):
            return use(*arguments, **named)

    async def _carry_out(self, request: BaseModel) -> str:
        files = self._files
        match request:
            case Bash():
                return await self._bash(request)
            case ReadFile(path=path, first_line=first_line, lines_max=lines_max):
                return await asyncio.to_thread(
                    self._as_owner, files.view, path, first_line=first_line, lines_max=lines_max
                )
            case Glob(pattern=pattern):
                return await asyncio.to_thread(self._as_owner, files.find, pattern)
            case Grep():
                return await self._grep(request)
            # Files are written in place: a thread could still write after a cancel.
            case WriteFile(path=path, content=content):
                return self._as_owner(files.write, path, content)
            case EditFile(path=path, old=old, new=new):
                return self._as_owner(files.replace, path, old=old, new=new)
            case InsertLines(path=path, after_line=after_line, text=text):
                return self._as_owner(files.insert, path, after_line=after_line, text=text)
            case Notes():
                return await self._use_notes(request)
            case Report() | Review():
                self.report = request
                return "The report is recorded."
        raise AssertionError(f"no way to carry out {type(request).__name__}")

    async def _use_notes(self, request: Notes) -> str:
        excerpt = Excerpt(head_max=_RESULT_CHARS, tail_max=0)
        excerpt.add(await use_notes(request, self._notes, token=self._token))
        return excerpt.text

    async def _bash(self, request: Bash) -> str:
        excerpt = Excerpt(head_max=_RESULT_CHARS // 2, tail_max=_RESULT_CHARS // 2)
        try:
            ran = await self._shell.run(request.command, excerpt=excerpt, timeout_s=request.timeout_s)
        except TimeoutError:
            raise ToolRefused(
                f"The command was ended: it took longer than {request.timeout_s:g} s. The shell"
                f" ended with it; the next command gets a new one, in the workspace.\n{excerpt.text}"
            ) from None
        new = "[a new shell, in the workspace: the one before has ended]\n" if ran.is_new_shell else ""
        ended = "\n[the shell has ended; the next command gets a new one]" if ran.has_ended_shell else ""
        return f"{new}exit code {ran.code}\n{excerpt.text}{ended}"

    async def _grep(self, request: Grep) -> str:
        """Search with the program `grep`: an expression of a model's may take for ever."""
        self._files.inside(request.path)
        line = [
            "grep",
            "-rnIE",
            f"-m{_GREP_LINES_PER_FILE}",
            *(f"--exclude-dir={name}" for name in UNSEARCHED),
        ]
        line += ["-i"] * request.ignore_case
        line += [f"--include={request.files}"] if request.files else []
        excerpt = Excerpt(head_max=_RESULT_CHARS, tail_max=0)
        shell = Shell(self._programs)
        try:
            async with asyncio.timeout(_GREP_S_MAX):
                code = await shell.run(
                    shlex.join([*line, "-e", request.pattern, "--", request.path]), excerpt=excerpt
                )
        except TimeoutError:
            raise ToolRefused(f"The search took longer than {_GREP_S_MAX:g} s.\n{excerpt.text}") from None
        if code > 1:
            raise ToolRefused(excerpt.text or f"grep ended with code {code}")
        return excerpt.text or "No line matches."


def _headline(request: BaseModel) -> str:
    """The first field says what the call is about: the command, the path, the status."""
    return str(getattr(request, next(iter(type(request).model_fields))))


def explain(error: ValidationError) -> str:
    """Return what is wrong with an input, for the model that gave it."""
    return "; ".join(
        f"{'.'.join(map(str, part['loc'])) or 'input'}: {part['msg']}" for part in error.errors()
    )
