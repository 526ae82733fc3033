"""One plan and its files: look what each side has changed, and make the other follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.client import Client
from orchestrator.core.words import CLOSED, TaskKind, TaskState
from orchestrator.errors import Conflict, PlanError
from orchestrator.plan.marks import agrees, request_for
from orchestrator.plan.model import Mark, Plan, PlanTask
from orchestrator.plan.sources import digest_of
from orchestrator.plan.standing import STANDING_BY_MARK, Standing
from orchestrator.sync.files import PlanFiles
from orchestrator.sync.three_way import Merge, merge
from orchestrator.views import ReviseRequest, SourceView


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round of sync did, and what waits for a person.

    Attributes:
        written: marks that were written into files.
        sent: keys of tasks that follow a mark that their author has set.
        flagged: ids of tasks that relied on what an untick has opened again.
        conflicts, refused: in words.
        missing: keys of tasks that the files no longer have; taking them out of the plan is for a person.
        revised: the edit of the files became the plan's text.
    """

    written: int = 0
    sent: tuple[str, ...] = ()
    flagged: tuple[int, ...] = ()
    conflicts: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    revised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Both sides as they were seen, and what is to be done about it."""

    source: SourceView
    texts: dict[str, str]
    merge: Merge


@dataclass(slots=True)
class Keeper:
    """Keeps the files of one plan in step with the server.

    Attributes:
        own: digest of the texts as the last round left them.
        followed: marks by key that the server has followed and the plan's text does not have yet. A task that
            was opened again may be done again by the next look: it must not be opened once more.
        agents: the agent type files that the plan brings along, as they were sent last.
    """

    client: Client
    files: PlanFiles
    ref: str
    own: str = ""
    followed: dict[str, Mark] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)

    def is_as_left(self) -> bool:
        """Tell whether the files are as the last round left them: what changed was our own writing."""
        try:
            return digest_of(self.files.read()) == self.own and self.files.agents() == self.agents
        except PlanError:
            return False

    def look(self) -> Look:
        """Look what is to be done, and do nothing.

        Raises:
            PlanError: the files cannot be read, or have errors.
            Conflict: a folder is not kept in step with the plan of one file, nor the other way round.
            NotFound: the server does not know the plan.
        """
        source = self.client.source(self.ref)
        texts = self.files.read()
        self._require_same_kind(texts, source)
        plan = self.files.parsed(texts, format=source.format)
        if plan.errors:
            first = plan.errors[0]
            place = f"{first.source or self.files.path}{f', line {first.line}' if first.line else ''}"
            raise PlanError(f"{place}: {first.message}", remedy="Mend the file; sync goes on then.")
        return Look(
            source=source,
            texts=texts,
            merge=merge(_base(source, self._agreed(source, plan)), plan.tasks, texts, _standings(source)),
        )

    def _require_same_kind(self, texts: Mapping[str, str], source: SourceView) -> None:
        """A folder would take over the plan of one of its files: all its tasks stand there."""
        found, known = (_as_words(list(files)) for files in (texts, source.files))
        if (list(texts) == [""]) != (list(source.files) == [""]):
            raise Conflict(
                f"{self.files.path} is {found}, and the plan was handed in as {known}.",
                remedy=f"Keep that in step; or make {self.files.path} the plan's text first: "
                f"`orchestrator import {self.files.path} --plan {self.ref}`.",
            )

    def _agreed(self, source: SourceView, plan: Plan) -> dict[str, Mark]:
        """Return the marks that the server has followed; one that lasts is sent until the task is there."""
        standings, marks = _standings(source), {task.key: task.mark for task in plan.tasks}
        return {
            key: mark
            for key, mark in self.followed.items()
            if key in standings
            and not (_lasts(mark) and marks.get(key) is mark and not agrees(mark, standings[key]))
        }

    def keep(self) -> Round:
        """Do one round. Raises as `look`, and whatever the server answers."""
        look = self.look()
        sent, flagged, refused = self._send(look)
        followed = {mark.key: mark.mark for mark in look.merge.sends if mark.key in sent}
        self.followed |= followed
        is_written = self._write(look)
        state = self._advance(look) if is_written else ""
        if state in {"unchanged", "applied"}:
            self.followed = followed
        self.own = digest_of(look.merge.files) if is_written else ""
        return Round(
            written=look.merge.written if is_written else 0,
            sent=sent,
            flagged=flagged,
            refused=refused,
            conflicts=tuple(
                f"{conflict.source or self.files.path}:{conflict.line} {conflict.key} is marked "
                f"{conflict.in_file} by hand and is {conflict.in_database} in the database"
                for conflict in look.merge.conflicts
            ),
            missing=look.merge.missing,
            revised=state == "applied",
        )

    def _send(self, look: Look) -> tuple[tuple[str, ...], tuple[int, ...], tuple[str, ...]]:
        tasks = {task.key: task for task in look.source.tasks}
        standings = _standings(look.source)
        sent: list[str] = []
        flagged: list[int] = []
        refused: list[str] = []
        for mark in look.merge.sends:
            kind, reason = request_for(mark.mark, standings[mark.key])
            try:
                answer = self.client.request(kind, task_id=tasks[mark.key].id, reason=reason)
            except Conflict as refusal:
                refused.append(f"{mark.key}: {refusal}")
            else:
                sent.append(mark.key)
                flagged += answer.get("flagged", ())
        return tuple(sent), tuple(flagged), tuple(refused)

    def _write(self, look: Look) -> bool:
        """Write the marks; False if somebody has edited a file meanwhile, who is to be looked at first."""
        return all(
            self.files.mark(name, marks, seen=look.texts[name]) for name, marks in look.merge.marks.items()
        )

    def _advance(self, look: Look) -> str:
        """Make what both sides agree on the plan's text; of an edit that removes tasks only the marks.

        What agent type files say now goes along.

        Returns the state of the revision: see Revised.
        """
        texts = look.merge.base
        if look.merge.missing:
            stored = dict(look.source.files)
            plan = self.files.parsed(stored, format=look.source.format)
            texts = merge(_base(look.source, {}), plan.tasks, stored, _standings(look.source)).files
        agents = self.files.agents()
        if digest_of(texts) == look.source.digest and agents == self.agents:
            return "unchanged"
        request = ReviseRequest(
            text=texts.get("", ""),
            files={} if list(texts) == [""] else dict(texts),
            agents=agents,
            format=look.source.format,
            base_digest=look.source.digest,
            follow=False,
        )
        state = self.client.revise(self.ref, request, is_applied=True).state
        self.agents = agents
        return state


def _as_words(paths: Sequence[str]) -> str:
    return "one file" if paths == [""] else f"a folder of {len(paths)} files"


def _lasts(mark: Mark) -> bool:
    """Tell whether a task stays where a mark puts it."""
    return STANDING_BY_MARK[mark].state in CLOSED


def _standings(source: SourceView) -> dict[str, Standing]:
    return {task.key: Standing(TaskState(task.state), task.reason) for task in source.tasks}


def _base(source: SourceView, followed: Mapping[str, Mark]) -> list[PlanTask]:
    return [
        PlanTask(
            key=task.key,
            has_own_key=task.has_own_key,
            title=task.title,
            kind=TaskKind(task.kind),
            parent=task.parent_key,
            mark=followed.get(task.key, Mark(task.mark)),
            line=task.line,
            source=task.source_file,
        )
        for task in source.tasks
    ]
