"""The backend `claude-code`: Claude Code works on the task, to a report of our shape.

The program asks the model through the proxy of this executor, which adds the key, counts and keeps to the
budget. Rule: only a valid report ends a session well; else the failure class follows from what the API
answered, not from what the program makes of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx2
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKError,
    HookMatcher,
    ResultMessage,
    TextBlock,
    ThinkingBlock,
    query,
)
from claude_agent_sdk.types import (
    EffortLevel,
    HookContext,
    HookEvent,
    HookInput,
    HookJSONOutput,
    ThinkingConfig,
)

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.errors import EnvironmentFault
from orchestrator.file_owner import acting_as
from orchestrator.grant_ports import Grants
from orchestrator.money import MICROS
from orchestrator.ports import (
    Assignment,
    Launcher,
    NoteBook,
    Outcome,
    SessionLimits,
    Transcript,
    Workspace,
)
from orchestrator.sessions.claude_code.access import Access
from orchestrator.sessions.claude_code.cli import LaunchedCli
from orchestrator.sessions.claude_code.notes import SERVER, TOOL, notes_server
from orchestrator.sessions.claude_code.outcome import Ending, outcome_of
from orchestrator.sessions.claude_code.proxy import ApiProxy
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.grants import UNGOVERNED
from orchestrator.sessions.meter import Meter, counted
from orchestrator.sessions.output import Excerpt
from orchestrator.sessions.prompt import role_prompt, task_prompt
from orchestrator.sessions.report import Report, Review
from orchestrator.sessions.watch import effective_limits, watched

#: Tools of the program, none of which starts other agents; who reviews changes no files.
_READING = ("Bash", "Glob", "Grep", "Read")
_CHANGING = ("Edit", "Write")

#: Name of the tool that takes the report.
_REPORT_TOOL = "StructuredOutput"

#: Who says what the program itself says, such as that the API failed.
_NO_MODEL = "<synthetic>"

#: What the settings may say of thinking that the program can do as well; else it is left to the model.
_THINKING: Mapping[str, ThinkingConfig] = {
    "adaptive": {"type": "adaptive"},
    "disabled": {"type": "disabled"},
}

_RESULT_CHARS = 4_000

#: What a session of ours is not to do by itself: to ask other servers or other models, to go on in the
#: background, to ask again unstreamed, to give up on an answer before our own clocks do.
_ENVIRONMENT = {
    "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    "CLAUDE_CODE_SDK_READS_SESSION_STATE": "1",  # the SDK waits for it before it ends the input
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    "CLAUDE_CODE_DISABLE_REFUSAL_FALLBACK": "1",
    "CLAUDE_CODE_DISABLE_REFUSAL_RETRY": "1",
    "CLAUDE_CODE_NO_MODEL_FALLBACK": "1",
    "API_FORCE_IDLE_TIMEOUT": "0",
    "API_TIMEOUT_MS": str(2**31 - 1),  # the longest that its timers know
    "CLAUDE_ENABLE_BYTE_WATCHDOG": "0",
}


class ClaudeCodeBackend:
    """Implements `ports.Backend` with the program that the Claude Agent SDK brings.

    Args:
        config: key, address, model and prices.
        launcher: starts the program. The key never reaches it.
        notes: for the tool of that name.
        grants: give leave for each request.
    """

    name = "claude-code"

    def __init__(
        self, config: SessionConfig, launcher: Launcher, *, notes: NoteBook, grants: Grants = UNGOVERNED
    ) -> None:
        self._config = config
        self._launcher = launcher
        self._notes = notes
        self._proxy = ApiProxy(config, httpx2.create_ssl_context(), grants=grants)

    async def run(self, assignment: Assignment, workspace: Workspace, transcript: Transcript) -> Outcome:
        """Let Claude Code work until a report, a limit or an error; the usage is told in each case."""
        meter = Meter(assignment.model or self._config.model, self._config)
        session = self._outcome(assignment, workspace, transcript, meter)
        return await counted(session, meter=meter, transcript=transcript)

    async def _outcome(
        self, assignment: Assignment, workspace: Workspace, transcript: Transcript, meter: Meter
    ) -> Outcome:
        try:
            return await self._work(assignment, workspace, transcript, meter)
        except EnvironmentFault as fault:
            return Outcome(
                state=AttemptState.FAILED, failure_class=FailureClass.INFRASTRUCTURE, summary=str(fault)
            )

    async def _work(
        self, assignment: Assignment, workspace: Workspace, transcript: Transcript, meter: Meter
    ) -> Outcome:
        limits = effective_limits(assignment.limits)
        model = assignment.model or self._config.model
        async with watched(limits) as clocks:
            access = Access(meter, cost_micros_max=limits.cost_micros_max, clocks=clocks)
            async with self._proxy.admit(access) as base_url:
                with _private_folder(workspace) as folder:
                    session = _Session(
                        assignment,
                        options=replace(
                            _options(self._config, assignment, limits, model=model),
                            mcp_servers={SERVER: notes_server(self._notes, token=assignment.token)},
                        ),
                        transcript=transcript,
                        touch=clocks,
                    )
                    env = {
                        "HOME": str(folder),
                        **workspace.env,
                        **_environment(self._config, model=model, folder=folder),
                        "ANTHROPIC_BASE_URL": base_url,
                        "ANTHROPIC_API_KEY": access.key,
                    }
                    own = replace(workspace, env=env, writable=(*workspace.writable, folder))
                    ending = await session.run(self._launcher, own)
        return outcome_of(ending, access, limits, report=_report_of(assignment))


class _Session:
    """One run of the program."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        options: ClaudeAgentOptions,
        transcript: Transcript,
        touch: Callable[[], None],
    ) -> None:
        self._assignment = assignment
        self._transcript = transcript
        self._touch = touch
        events: tuple[HookEvent, ...] = ("PreToolUse", "PostToolUse", "PostToolUseFailure")
        hooks = {event: [HookMatcher(hooks=[self._on_tool])] for event in events}
        self._options = replace(options, hooks=hooks)

    async def run(self, launcher: Launcher, workspace: Workspace) -> Ending:
        """Start the program, give it the task, follow it to its end.

        Raises:
            EnvironmentFault: it could not be started.
        """
        cli = LaunchedCli(
            launcher,
            options=self._options,
            workspace=workspace,
            token=self._assignment.token,
            grace_s=self._assignment.limits.grace_s,
            on_stderr=lambda text: self._transcript.write("stderr", text),
        )
        result, error = None, ""
        try:
            prompt = task_prompt(self._assignment, self._transcript)
            talk = query(prompt=prompt, options=self._options, transport=cli)
            async with aclosing(talk) as messages:  # type: ignore[type-var]
                async for message in messages:
                    self._touch()
                    if isinstance(message, AssistantMessage):
                        self._show(message)
                    elif isinstance(message, ResultMessage):
                        result = message
        except Exception as broken:
            if not isinstance(broken, ClaudeSDKError) and type(broken) is not Exception:
                raise  # of what it asks the program and gets no answer to, the SDK raises bare ones
            error = str(broken)
        finally:
            await cli.close()
        return Ending(result=result, error=error)

    def _show(self, message: AssistantMessage) -> None:
        stream = "note" if message.model == _NO_MODEL else "model"
        for block in message.content:
            if isinstance(block, TextBlock):
                self._transcript.write(stream, f"{block.text}\n")
            elif isinstance(block, ThinkingBlock) and block.thinking:
                self._transcript.write(stream, f"{block.thinking}\n")

    async def _on_tool(self, event: HookInput, _: str | None, __: HookContext) -> HookJSONOutput:
        """A tool of the program begins or has ended: tell so."""
        self._touch()
        told = cast("dict[str, Any]", event)
        match told["hook_event_name"]:
            case "PreToolUse":
                self._transcript.write("tool", f"{told['tool_name']}: {_headline(told['tool_input'])}\n")
            case "PostToolUse" if told["tool_name"] == "Bash":
                if printed := told["tool_response"].get("stdout"):  # with what went to stderr
                    self._transcript.write("stdout", _shortened(printed))
            case "PostToolUseFailure":
                self._transcript.write("tool", f"error: {_shortened(told['error'])}")
        return {}


def _report_of(assignment: Assignment) -> type[Report | Review]:
    return Review if assignment.kind is AttemptKind.REVIEW else Report


def _options(
    config: SessionConfig, assignment: Assignment, limits: SessionLimits, *, model: str
) -> ClaudeAgentOptions:
    """What the program may do. `dontAsk` works for every user, root too: what is not allowed is refused."""
    is_review = assignment.kind is AttemptKind.REVIEW
    reading = [tool for tool in _READING if tool in assignment.tools]
    changing = [tool for tool in _CHANGING if tool in assignment.tools and not is_review]
    return ClaudeAgentOptions(
        model=model,
        effort=cast("EffortLevel | None", config.effort or None),
        thinking=_THINKING.get(config.thinking),
        system_prompt={
            "type": "preset",
            "preset": "claude_code",
            "append": role_prompt(assignment).replace("`report`", f"`{_REPORT_TOOL}`"),
        },
        output_format={"type": "json_schema", "schema": _report_of(assignment).model_json_schema()},
        tools=[*reading, *changing],
        allowed_tools=[TOOL, *reading, *(f"{tool}(./**)" for tool in changing)],
        permission_mode="dontAsk",
        max_turns=limits.turns_max,
        max_budget_usd=limits.cost_micros_max / MICROS,
        verbatim_prompts=True,  # the text of a plan neither names files to read nor commands to run
        setting_sources=[],
        skills=[],
        strict_mcp_config=True,
    )


def _environment(config: SessionConfig, *, model: str, folder: Path) -> dict[str, str]:
    return {
        **_ENVIRONMENT,
        "CLAUDE_CONFIG_DIR": str(folder),
        "CLAUDE_CODE_TMPDIR": str(folder),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(config.max_output_tokens),
        "CLAUDE_CODE_MAX_RETRIES": str(config.retries_max),
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,  # what it does beside the task has the same price
    }


@contextmanager
def _private_folder(workspace: Workspace) -> Iterator[Path]:
    """Give the program a folder of its own for its configuration; nothing of it outlives the attempt."""
    with acting_as(workspace.owner):
        folder = tempfile.TemporaryDirectory(
            prefix="claude-code-", dir=workspace.env.get("TMPDIR"), ignore_cleanup_errors=True
        )
    with folder as name:
        yield Path(name)


def _headline(arguments: Mapping[str, Any]) -> str:
    """The first argument says what the call is about: the command, the path, the status."""
    return str(next(iter(arguments.values()), ""))


def _shortened(text: str) -> str:
    excerpt = Excerpt(head_max=_RESULT_CHARS // 2, tail_max=_RESULT_CHARS // 2)
    excerpt.add(text)
    return f"{excerpt.text}\n"
