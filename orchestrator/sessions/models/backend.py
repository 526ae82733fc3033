"""A backend whose sessions are conversations with a model, over the API of its provider, to a report."""

from __future__ import annotations

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.errors import Overloaded
from orchestrator.grant_ports import Grants
from orchestrator.journal_ports import Journals
from orchestrator.ports import (
    Assignment,
    Launcher,
    NoteBook,
    Outcome,
    Transcript,
    Workspace,
)
from orchestrator.sessions.grants import UNGOVERNED
from orchestrator.sessions.meter import Meter, counted
from orchestrator.sessions.models.api import Frame, ModelApi
from orchestrator.sessions.models.asking import Asker
from orchestrator.sessions.models.conversation import Conversation
from orchestrator.sessions.models.journal import Journal, Standing
from orchestrator.sessions.prompt import role_prompt, task_prompt
from orchestrator.sessions.tools.toolbox import Toolbox, tools_for
from orchestrator.sessions.watch import effective_limits, watched


class ModelBackend:
    """Implements `ports.Backend` with a model that calls our tools.

    Args:
        api: of the provider, after which the backend is named.
        launcher: for the tools that run programs. The key never reaches its children.
        notes: for the tool of that name.
        journals: keep what is needed to go on with a session whose executor is lost.
        grants: give leave for each request.
    """

    def __init__(
        self,
        api: ModelApi,
        launcher: Launcher,
        *,
        notes: NoteBook,
        journals: Journals,
        grants: Grants = UNGOVERNED,
    ) -> None:
        self.name = api.provider
        self._api = api
        self._launcher = launcher
        self._notes = notes
        self._journals = journals
        self._grants = grants

    async def run(self, assignment: Assignment, workspace: Workspace, transcript: Transcript) -> Outcome:
        """Converse until a report, a limit or an error; the usage is told in each case."""
        config = self._api.config
        meter = Meter(assignment.model or config.model, config)
        session = self._outcome(assignment, workspace, transcript, meter)
        return await counted(session, meter=meter, transcript=transcript)

    async def _outcome(
        self, assignment: Assignment, workspace: Workspace, transcript: Transcript, meter: Meter
    ) -> Outcome:
        try:
            return await self._converse(assignment, workspace, transcript, meter)
        except self._api.errors as error:
            return self._api.judgement_of(error, has_begun=meter.usage.requests > 0).outcome()
        except Overloaded as late:
            return Outcome(
                state=AttemptState.FAILED, failure_class=FailureClass.RATE_LIMITED, summary=str(late)
            )

    async def _converse(
        self, assignment: Assignment, workspace: Workspace, transcript: Transcript, meter: Meter
    ) -> Outcome:
        limits = effective_limits(assignment.limits)
        async with (
            watched(limits) as clocks,
            self._api.use(),
            Toolbox(
                self._launcher,
                notes=self._notes,
                assignment=assignment,
                workspace=workspace,
                transcript=transcript,
                touch=clocks,
            ) as toolbox,
        ):
            frame = Frame(
                model=assignment.model or self._api.config.model,
                role=role_prompt(assignment),
                tools=tools_for(assignment),
            )
            asker = Asker(
                self._api,
                frame=frame,
                meter=meter,
                transcript=transcript,
                clocks=clocks,
                grants=self._grants,
            )
            journal = Journal(self._journals, assignment, terms=self._api.terms(frame), folder=workspace.path)
            standing = await journal.take_up(transcript)
            conversation = Conversation(
                asker,
                standing=standing or Standing.of_task(task_prompt(assignment, transcript)),
                journal=journal,
                toolbox=toolbox,
                meter=meter,
                transcript=transcript,
                tokens_max=self._api.config.conversation_tokens,
            )
            return await conversation.run(limits)
