"""How a plan that is followed looks: redrawn on a terminal, one line per event when piped, or silent."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import typer

from orchestrator.cli.messages import Ended, Happened, Message, Starting
from orchestrator.cli.output import Output, style_of
from orchestrator.cli.progress import Progress
from orchestrator.cli.text import count, duration, one_line, plan_spending
from orchestrator.core.words import AttemptKind, AttemptState
from orchestrator.routing.backends import SIMULATED

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from orchestrator.views import EventView

_REFRESH_PER_S = 4
_SESSIONS_SHOWN_MAX = 12
_AGENT_TYPES_SHOWN_MAX = 10

#: Events that tell people nothing which another does not tell them better.
_SILENT = frozenset(
    {"plan.taken", "task.waiting", "task.ready", "task.running", "task.verifying", "attempt.leased"}
)
#: Events that stay on the screen of a terminal; the rest is in what is redrawn.
_LASTING = frozenset({"task.failed", "task.held", "task.cancelled", "attempt.lost"})


class View(Protocol):
    """Shows one plan from its start to its end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...

    def show(self, message: Message, progress: Progress) -> None:
        """Show a message that `progress` has taken in."""


def follow(messages: Iterable[Message], *, output: Output) -> Progress:
    """Show messages until the plan has ended, and return how far it came."""
    progress = Progress()
    with view_for(output, progress) as view:
        for message in messages:
            progress.take(message)
            view.show(message, progress)
            if isinstance(message, Ended):
                break
    return progress


def view_for(output: Output, progress: Progress) -> View:
    """Return the view that suits where the output goes."""
    if output.is_json:
        return QuietView()
    return LiveView(output.console(), progress) if output.is_live else LineView()


def event_line(event: EventView, progress: Progress) -> str:
    """Return one line on an event: time, key, what, who; empty for what people need not see.

    Attempts are called by kind and number, for work, gates and reviews are numbered each for itself.
    """
    if event.type in _SILENT:
        return ""
    task = progress.tasks.get(event.task_id or 0)
    if event.type.startswith("task.") and task is None:
        return ""  # a container: its leaves tell it
    what = _what(event)
    if not what:
        return ""
    subject = event.task_key or (task.key if task else "") or progress.name or "plan"
    return f"{event.at.astimezone():%H:%M:%S}  {subject:<12} {what}"


def _what(event: EventView) -> str:
    payload = event.payload
    noun, _, word = event.type.partition(".")
    if noun == "note":
        return str(payload.get("kind", noun))
    if noun != "attempt":
        reason = payload.get("reason", "")
        return f"{word}: {one_line(str(reason))}" if reason else word
    kind = payload.get("kind", AttemptKind.WORK)
    attempt = f"{kind} {payload.get('number', 1)}"
    if word == "started":
        who = "" if kind == AttemptKind.GATE else f"  {payload.get('agent_type', '')}"
        label = "  simulated" if payload.get("backend") == SIMULATED else ""
        return f"{attempt} started{who}{label}"
    if payload.get("state") == AttemptState.SUCCEEDED:
        return ""
    ended = str(payload.get("state", word)).replace("_", " ")
    return f"{attempt} {ended}: {one_line(str(payload.get('summary', '')))} [{payload.get('failure_class')}]"


class QuietView:
    """Shows nothing: the result alone is wanted."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, message: Message, progress: Progress) -> None:
        """Show nothing."""


class LineView(QuietView):
    """Writes one line per event."""

    def show(self, message: Message, progress: Progress) -> None:
        """Write the line of the message, if it has one."""
        if isinstance(message, Starting):
            typer.echo(f"{duration(message.at_s):>8}  {message.text}")
        elif isinstance(message, Happened) and (line := event_line(message.event, progress)):
            typer.echo(line)


class LiveView:
    """Redraws progress, agent types and live sessions in place; failures stay above as lines."""

    def __init__(self, console: Console, progress: Progress) -> None:
        from rich.live import Live

        self._progress = progress
        self._starting: list[Starting] = []
        self._live = Live(
            get_renderable=self._draw, console=console, refresh_per_second=_REFRESH_PER_S, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, message: Message, progress: Progress) -> None:
        """Keep what the next drawing needs, and write the lines that last."""
        if isinstance(message, Starting):
            self._starting.append(message)
        elif isinstance(message, Happened) and message.event.type in _LASTING:
            line = event_line(message.event, progress)
            if line:
                self._live.console.print(line, style=style_of(message.event.type.partition(".")[2]))

    def _draw(self) -> RenderableType:
        from rich.console import Group

        if not self._progress.tasks:
            return Group(*self._draw_start())
        return Group(self._draw_bars(), self._draw_totals(), *self._draw_sessions())

    def _draw_start(self) -> list[Text]:
        from rich.text import Text

        lines = [Text(f"  {step.text} ({duration(step.at_s)})", style="dim") for step in self._starting[-6:]]
        return [*lines, Text(f"  starting … {duration(self._progress.elapsed_s)}")]

    def _draw_bars(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        bars = Table.grid(padding=(0, 2))
        counts = self._progress.counts()
        total = len(self._progress.tasks)
        bar = ProgressBar(total=total, completed=counts["done"], width=36)
        bars.add_row(self._progress.name, bar, f"{counts['done']}/{total}", _others(counts))
        for entry in self._progress.by_agent_type()[:_AGENT_TYPES_SHOWN_MAX]:
            bar = ProgressBar(total=entry.tasks, completed=entry.done, width=36)
            parts = {"running": entry.running, "failed": entry.failed}
            bars.add_row(f"  {entry.agent_type}", bar, f"{entry.done}/{entry.tasks}", _others(parts))
        return bars

    def _draw_totals(self) -> Text:
        from rich.text import Text

        progress = self._progress
        is_simulated = progress.plan is not None and progress.plan.backend == SIMULATED
        parts = [*(["simulated"] if is_simulated else []), duration(progress.elapsed_s)]
        if progress.eta_s is not None:
            parts.append(f"about {duration(progress.eta_s)} to go")
        if progress.plan is not None:
            parts += [count(progress.plan.attempts, "attempt"), plan_spending(progress.plan)]
        return Text("\n" + " · ".join(parts), style="bold")

    def _draw_sessions(self) -> list[RenderableType]:
        from rich.table import Table
        from rich.text import Text

        live = tuple(self._progress.sessions.values())  # drawn by rich's thread while ours takes messages
        sessions = sorted(live, key=lambda session: session.since)
        if not sessions:
            return []
        table = Table.grid(padding=(0, 2))
        for session in sessions[:_SESSIONS_SHOWN_MAX]:
            what = f"{session.kind} {session.number}"
            title = one_line(session.title, width=48)
            table.add_row(
                f"  {session.task_key}",
                title,
                session.agent_type,
                what,
                duration(self._progress.lasts_s(session)),
            )
        more = len(sessions) - _SESSIONS_SHOWN_MAX
        return [table, Text(f"  and {more} more", style="dim")] if more > 0 else [table]


def _others(counts: dict[str, int]) -> Text:
    """Return the states that are neither done nor waiting, coloured, such as `2 running · 1 failed`."""
    from rich.text import Text

    shown = [state for state in ("running", "verifying", "ready", "failed", "held") if counts.get(state)]
    return Text(" · ").join(Text(f"{counts[state]} {state}", style=style_of(state)) for state in shown)
