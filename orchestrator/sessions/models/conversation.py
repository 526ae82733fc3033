"""The turns of one session with a model: ask, carry out the tool calls, ask again, to an outcome.

Rule: only a valid report ends a session well; turns, spend and the size of the conversation are bounded.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.words import FailureClass
from orchestrator.money import MICROS
from orchestrator.ports import Outcome, SessionLimits, Transcript
from orchestrator.sessions.meter import Meter
from orchestrator.sessions.models.answer import Answer, Block
from orchestrator.sessions.models.asking import Asker
from orchestrator.sessions.models.journal import Journal, Standing
from orchestrator.sessions.prompt import CONTINUE, HAND_OVER, REMINDER, handed_over
from orchestrator.sessions.report import no_report
from orchestrator.sessions.tools.toolbox import Call, Toolbox

_CONTINUATIONS_MAX = 5
_REMINDERS_MAX = 1


class Conversation:
    """One session with a model.

    Args:
        asker: asks the model.
        standing: how it stands as it begins, or goes on.
        journal: is told how it stands from then on.
        toolbox: carries out what the model calls.
        meter: tells the spend.
        transcript: gets what the conversation does with itself.
        tokens_max: size from which the service is asked to clear old tool results; half as much again,
            and the conversation is handed over to a new one. See docs/adr/.
    """

    def __init__(
        self,
        asker: Asker,
        *,
        standing: Standing,
        journal: Journal,
        toolbox: Toolbox,
        meter: Meter,
        transcript: Transcript,
        tokens_max: int,
    ) -> None:
        self._asker = asker
        self._at = standing
        self._journal = journal
        self._toolbox = toolbox
        self._meter = meter
        self._transcript = transcript
        self._tokens_max = tokens_max

    async def run(self, limits: SessionLimits) -> Outcome:
        """Take turns until the session has an outcome. Raises what `Asker.ask` does."""
        for _ in range(limits.turns_max):
            answer = await self._ask()
            outcome = await self._take(answer)
            if outcome is not None:
                return outcome
            self._journal.write(self._at)
            if self._meter.usage.cost_micros >= limits.cost_micros_max:
                return no_report(
                    FailureClass.BUDGET,
                    f"The session reached its cap of ${limits.cost_micros_max / MICROS:.2f}.",
                    said=answer.text,
                )
        return no_report(FailureClass.AGENT, f"There was no report after {limits.turns_max} turns.")

    async def _ask(self) -> Answer:
        at = self._at
        return await self._asker.ask(at.messages, may_call=not at.is_handing_over, is_long=at.is_long)

    async def _take(self, answer: Answer) -> Outcome | None:
        """Do what an answer asks for. Returns the outcome if it ends the session."""
        if answer.stop_reason == "refusal":
            why = answer.refusal or "no reason given"
            return no_report(FailureClass.AGENT, f"The model refused the task: {why}.")
        if answer.stop_reason == "model_context_window_exceeded":
            return no_report(FailureClass.AGENT, "The conversation outgrew the context window of the model.")
        self._measure(answer)
        if self._at.is_handing_over:
            self._hand_over(answer)
            return None
        if answer.blocks:
            self._at.messages.append({"role": "assistant", "content": answer.blocks})
        is_cut = answer.stop_reason == "max_tokens"
        self._at.continuations = self._at.continuations + 1 if is_cut else 0
        if self._at.continuations > _CONTINUATIONS_MAX:
            return no_report(
                FailureClass.AGENT, f"{self._at.continuations} answers in a row reached their length limit."
            )
        if answer.calls:
            await self._journal.store(self._at)  # or nobody would know later that these were begun
            self._at.say(await self._carry_out(answer.calls, is_last_cut=is_cut and _ends_with_call(answer)))
            if self._toolbox.report:
                return self._toolbox.report.outcome()
        elif is_cut:
            self._at.say([{"type": "text", "text": CONTINUE}])
        elif answer.stop_reason != "pause_turn":  # else the model goes on from its own words
            return self._remind(answer)
        self._bound()
        return None

    async def _carry_out(self, calls: Sequence[Block], *, is_last_cut: bool) -> list[Block]:
        """Answer every call; one that was cut off is not carried out."""
        whole = calls[:-1] if is_last_cut else calls
        results = await self._toolbox.call_all([Call(call["name"], call["input"]) for call in whole])
        answers = [(result.text, result.is_error) for result in results]
        answers += [(CONTINUE, True)] * is_last_cut
        return [
            {"type": "tool_result", "tool_use_id": call["id"], "content": text, "is_error": is_error}
            for call, (text, is_error) in zip(calls, answers, strict=True)
        ]

    def _remind(self, answer: Answer) -> Outcome | None:
        """The model stopped without a report: tell it once, then give up."""
        if self._at.reminders == _REMINDERS_MAX:
            return no_report(
                FailureClass.AGENT, "The model ended its turn without a report.", said=answer.text
            )
        self._at.reminders += 1
        self._at.say([{"type": "text", "text": REMINDER}])
        return None

    def _measure(self, answer: Answer) -> None:
        tokens = answer.tokens
        self._at.size = (
            tokens.input_tokens + tokens.cache_read_tokens + tokens.cache_write_tokens + tokens.output_tokens
        )
        self._at.is_long |= self._at.size >= self._tokens_max  # for good: our side of it stays long
        if answer.cleared_tokens:
            self._transcript.write("note", f"{answer.cleared_tokens:,} tokens of old tool results cleared.\n")

    def _bound(self) -> None:
        """Where clearing does not help, ask for what a new conversation needs to know."""
        if self._at.size >= self._tokens_max * 3 // 2:
            self._at.is_handing_over = True
            self._at.say([{"type": "text", "text": HAND_OVER}])

    def _hand_over(self, answer: Answer) -> None:
        """Begin a new conversation with the task and what the model of the old one says of it."""
        self._transcript.write("note", f"The conversation of {self._at.size:,} tokens is handed over.\n")
        task, self._at = self._at.task, Standing([], reminders=self._at.reminders)
        self._at.say([task, {"type": "text", "text": handed_over(answer.text)}])


def _ends_with_call(answer: Answer) -> bool:
    return bool(answer.blocks[-1]["type"] == "tool_use")
