"""The tool `notes` for Claude Code: this process serves it, over the same pipes as the rest of the talk."""

from __future__ import annotations

from typing import Any

from claude_agent_sdk import McpSdkServerConfig, SdkMcpTool, create_sdk_mcp_server
from pydantic import ValidationError

from orchestrator.errors import EnvironmentFault
from orchestrator.ports import NoteBook
from orchestrator.sessions.tools.files import ToolRefused
from orchestrator.sessions.tools.notes import Notes, use_notes
from orchestrator.sessions.tools.toolbox import explain, tool_definitions

SERVER = "plan"

#: How the program calls the tool.
TOOL = f"mcp__{SERVER}__notes"


def notes_server(book: NoteBook, *, token: int) -> McpSdkServerConfig:
    """Return the server of the tool for one attempt."""

    async def carry_out(arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            return _said(await use_notes(Notes.model_validate(arguments), book, token=token))
        except ValidationError as error:
            return _said(explain(error), is_error=True)
        except (ToolRefused, EnvironmentFault) as error:
            return _said(str(error), is_error=True)

    [definition] = tool_definitions({"notes": Notes})
    schema: dict[str, Any] = dict(Notes.model_json_schema())
    tool = SdkMcpTool(
        name="notes", description=str(definition["description"]), input_schema=schema, handler=carry_out
    )
    return create_sdk_mcp_server(SERVER, tools=[tool])


def _said(text: str, *, is_error: bool = False) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "is_error": is_error}
