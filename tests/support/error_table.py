"""What can go wrong with a session, by backend: a row each, with what must follow.

A row names a behaviour, the class of the failure, the words that people read, and whether the same thing is
tried again within the session. What then becomes of the task stands in `FATES`, by class: the core decides it
(`fate_of`), nobody else. `docs/errors.md` is made from here, tests/integration/test_error_table.py runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.core.state import Policy
from orchestrator.core.words import AttemptKind, AttemptState, FailureClass, TaskState
from orchestrator.ports import Outcome
from tests.support.core import World, spec
from tests.support.messages_api import Reply, done, text

ATTEMPTS_MAX = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One behaviour and what follows.

    Attributes:
        does: what the service, or the program, does; for people.
        failure_class, words: of the outcome; the words are a regular expression.
        reply: of a service.
        after: how many answers came well before.
        is_asked_again: the same request is sent again in the same session, and the session goes on if that
            goes well.
        given: of the assignment, in place of the usual.
        limits: of the session, in place of the usual.
        backends: in which it means something.
        asks: by backend: how many requests there are, where it is not one, or two if it is asked again.
    """

    does: str
    failure_class: FailureClass
    words: str
    reply: Reply = Reply()  # noqa: RUF009 - frozen
    after: int = 0
    is_asked_again: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    backends: tuple[str, ...] = ("anthropic", "claude-code")
    asks: Mapping[str, int] = field(default_factory=dict)

    def requests(self, backend: str) -> int:
        """Return how many requests a session sends until it ends so."""
        return self.asks.get(backend, self.after + 1 + self.is_asked_again)


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a task whose attempts all end alike.

    Attributes:
        is_charged: the attempt counts against the task's attempts.
        again_ms: when the next attempt starts after the first; None = there is none.
        end: state and reason of the task at last; empty = it is tried without end.
        attempts: how many there were until then.
    """

    is_charged: bool
    again_ms: int | None
    end: str = ""
    attempts: int = 0


LIMITED, OURS = FailureClass.RATE_LIMITED, FailureClass.INFRASTRUCTURE
AGENT, PLAN = FailureClass.AGENT, FailureClass.PLAN_DEFECT
TIMEOUT, BUDGET, GATE = FailureClass.TIMEOUT, FailureClass.BUDGET, FailureClass.GATE

#: What the core makes of each class of failure, with three attempts and three losses.
FATES = {
    LIMITED: Fate(is_charged=False, again_ms=1_000),
    OURS: Fate(is_charged=False, again_ms=1_000, end="held: poison", attempts=3),
    FailureClass.WORKSPACE: Fate(is_charged=False, again_ms=1_000, end="held: poison", attempts=3),
    AGENT: Fate(is_charged=True, again_ms=1_000, end="failed", attempts=3),
    GATE: Fate(is_charged=True, again_ms=1_000, end="failed", attempts=3),
    TIMEOUT: Fate(is_charged=True, again_ms=1_000, end="failed", attempts=3),
    PLAN: Fate(is_charged=True, again_ms=None, end="failed", attempts=1),
    BUDGET: Fate(is_charged=False, again_ms=None, end="held: attempt budget", attempts=1),
}


def fate_of(outcome: Outcome, *, kind: AttemptKind = AttemptKind.WORK) -> Fate:
    """Have the core decide what follows when each attempt of a task has this outcome."""
    world = World(policy=Policy(jitter=0.0))
    world.join("a")
    world.join("g", "gate")
    world.load([spec(1, attempts_max=ATTEMPTS_MAX, has_gate=kind is AttemptKind.GATE)])
    is_charged, again_ms, attempts = False, None, 0
    while world.task(1).token and attempts < 10:
        attempts += 1
        if kind is AttemptKind.GATE:
            world.end(1)  # the work is well, the gate is not
        ended_ms = world.now_ms
        world.end(1, outcome.state, outcome.failure_class, cost_micros=outcome.usage.cost_micros)
        if attempts == 1:
            is_charged = world.task(1).attempts_used == 1
        while world.task(1).state is TaskState.READY:
            world.wait(100)
        if attempts == 1 and world.task(1).token:
            again_ms = world.now_ms - ended_ms
    task = world.task(1)
    held = f"held: {task.reason}" if task.state is TaskState.HELD else task.state.value
    end = "" if task.token else held
    return Fate(is_charged=is_charged, again_ms=again_ms, end=end, attempts=attempts if end else 0)


def _error(status: int, error_type: str, **headers: str) -> Reply:
    return Reply(status=status, error_type=error_type, headers=headers, extra={"message": "because"})


def _api_row(does: str, status: int, error_type: str, failure: FailureClass, **more: Any) -> Row:
    """A row of an error of the API, whose own words are shown."""
    words = more.pop("words", f"{status} {error_type or 'error'}: because")
    return Row(does, failure, words, reply=_error(status, error_type), **more)


_WAITED = "waited 5 s in all for leave"
_SHORT_WAIT = {"wait_max_s": 5}
#: What the program of Claude Code asks again by rules of its own.
_TWICE = {"claude-code": 2}
_PASSES: dict[str, Any] = {"is_asked_again": True}
_REFUSAL = {"stop_details": {"type": "refusal", "category": "cyber", "explanation": "bad idea"}}

#: Of the Messages API, for sessions of `anthropic` and of `claude-code`.
MESSAGES: dict[str, Row] = {
    "429": Row(
        "refuses all, for longer than a session may wait", LIMITED, _WAITED,
        reply=_error(429, "rate_limit_error", **{"retry-after-ms": "100"}), limits=_SHORT_WAIT, **_PASSES,
    ),
    "429, long": Row(
        "asks to wait longer than a session may", LIMITED, "nothing sent for 900 s",
        reply=_error(429, "rate_limit_error", **{"retry-after": "900"}),
    ),
    "529": Row(
        "is overloaded, for longer than a session may wait", LIMITED, _WAITED,
        reply=_error(529, "overloaded_error"), limits=_SHORT_WAIT, **_PASSES,
    ),
    "529 in mid-stream": Row(
        "is overloaded in mid-answer, again and again", LIMITED, f"overloaded_error|{_WAITED}",
        reply=Reply([text("x")], stream_error="overloaded_error"), limits=_SHORT_WAIT, **_PASSES,
    ),
    "500": _api_row("has an internal error", 500, "api_error", OURS, **_PASSES),
    "503": _api_row("is away", 503, "api_error", OURS, **_PASSES),
    "504": _api_row("takes too long by its own clock", 504, "timeout_error", OURS, **_PASSES),
    "502": _api_row("is not reached by its gateway", 502, "", OURS, **_PASSES),
    "error in mid-stream": Row(
        "has an internal error in mid-answer", OURS, "api_error",
        reply=Reply([text("x")], stream_error="api_error"), asks={"claude-code": 4}, **_PASSES,
    ),
    "cut in mid-stream": Row(
        "breaks off in mid-answer", OURS, "Check the network", reply=Reply([text("x" * 99)], events_max=8),
        **_PASSES,
    ),
    "cut at once": Row(
        "hangs up", OURS, "Check the network", reply=Reply([text("x")], events_max=0), **_PASSES
    ),
    "cut, later": Row(
        "breaks off in a later turn", OURS, "Check the network",
        reply=Reply([text("x" * 99)], events_max=8), after=1, **_PASSES,
    ),
    "400": _api_row(
        "refuses the first request as malformed", 400, "invalid_request_error", PLAN,
        asks={"claude-code": 6},
    ),
    "400, later": _api_row(
        "refuses a later request as malformed", 400, "invalid_request_error", AGENT, after=1,
        asks={"claude-code": 7},
    ),
    "413": _api_row(
        "refuses a later request as too large", 413, "request_too_large", AGENT, after=1,
    ),
    "401": _api_row(
        "does not know the key", 401, "authentication_error", OURS, words="401.*Check the API key"
    ),
    "402": _api_row("wants to be paid", 402, "billing_error", OURS, words="402.*Check the credit"),
    "403": _api_row("forbids it", 403, "permission_error", OURS, words="403.*Check the API key"),
    "404": _api_row(
        "does not know the model", 404, "not_found_error", PLAN, words="404.*a model that", asks=_TWICE
    ),
    "silence": Row(
        "answers nothing", TIMEOUT, "silent for", reply=Reply([done()], delay_s=240),
    ),
    "refusal": Row(
        "the model refuses the task", AGENT, "refused the task: bad idea",
        reply=Reply([text("No.")], stop_reason="refusal", extra=_REFUSAL),
    ),
    "context window": Row(
        "the conversation outgrows the model", AGENT, "outgrew the context window",
        reply=Reply([text("x")], stop_reason="model_context_window_exceeded"), backends=("anthropic",),
    ),
    "no report": Row(
        "the model ends without a report", AGENT, "without a report", reply=Reply([text("Trust me.")]),
        asks=_TWICE | {"anthropic": 2},
    ),
    "budget": Row(
        "the session has spent its cap", BUDGET, r"cap of \$0\.00", reply=Reply([text("x" * 4_000)]),
        limits={"cost_micros_max": 4_000},
    ),
}  # fmt: skip

#: Of chat completions; their `stop_reason` and types of errors have other words.
CHAT: dict[str, Row] = {
    name: replace(row, backends=("openai",))
    for name, row in {
        "429": Row(
            "refuses all, for longer than a session may wait", LIMITED, _WAITED,
            reply=_error(429, "rate_limit_exceeded", **{"retry-after-ms": "100"}), limits=_SHORT_WAIT,
            **_PASSES,
        ),
        "429, until a reset": Row(
            "has nothing left until a reset that is far away", LIMITED, "nothing sent for 900 s",
            reply=_error(429, "rate_limit_exceeded", **{
                "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "15m0s",
            }),
        ),
        "429, no quota": _api_row(
            "wants to be paid; waiting does not help", 429, "insufficient_quota", OURS,
            words="429 insufficient_quota.*Check the credit",
        ),
        "503, slow down": Row(
            "is overloaded, for longer than a session may wait", LIMITED, _WAITED,
            reply=_error(503, "slow_down"), limits=_SHORT_WAIT, **_PASSES,
        ),
        "limited in mid-stream": Row(
            "refuses in mid-answer, again and again", LIMITED, f"rate_limit_exceeded|{_WAITED}",
            reply=Reply([text("x")], stream_error="rate_limit_exceeded"), limits=_SHORT_WAIT, **_PASSES,
        ),
        "500": _api_row("has an internal error", 500, "server_error", OURS, **_PASSES),
        "502": _api_row(
            "is not reached by its gateway", 502, "", OURS, words="502 .*: because", **_PASSES
        ),
        "503": _api_row("is away", 503, "", OURS, words="503 .*: because", **_PASSES),
        "error in mid-stream": Row(
            "has an internal error in mid-answer", OURS, "server_error",
            reply=Reply([text("x")], stream_error="server_error"), **_PASSES,
        ),
        "cut in mid-stream": Row(
            "breaks off in mid-answer", OURS, "Check the network",
            reply=Reply([text("x" * 99)], events_max=8), **_PASSES,
        ),
        "cut at once": Row(
            "hangs up", OURS, "Check the network", reply=Reply([text("x")], events_max=0), **_PASSES
        ),
        "cut, later": Row(
            "breaks off in a later turn", OURS, "Check the network",
            reply=Reply([text("x" * 99)], events_max=8), after=1, **_PASSES,
        ),
        "400": _api_row(
            "refuses the first request as malformed", 400, "", PLAN, words="400 .*: because"
        ),
        "400, later": _api_row(
            "refuses a later request as malformed", 400, "", AGENT, words="400 .*: because", after=1
        ),
        "413": _api_row(
            "refuses a later request as too large", 413, "", AGENT, words="413 .*: because", after=1
        ),
        "422": _api_row(
            "cannot make sense of the first request", 422, "", PLAN, words="422 .*: because"
        ),
        "no tools": Row(
            "has a model that takes no functions", PLAN, "Name a model that can call functions",
            reply=Reply(status=400, extra={"message": "this model does not support tools"}),
        ),
        "too long": _api_row(
            "finds the conversation longer than its model can read", 400, "context_length_exceeded", AGENT,
            words="outgrew the context window", after=1,
        ),
        "401": _api_row(
            "does not know the key", 401, "invalid_api_key", OURS, words="401.*Check the API key"
        ),
        "403": _api_row("forbids it", 403, "", OURS, words="403.*Check the API key"),
        "404": _api_row(
            "does not know the model", 404, "model_not_found", PLAN, words="404.*a model that"
        ),
        "silence": Row("answers nothing", TIMEOUT, "silent for", reply=Reply([done()], delay_s=240)),
        "refusal": Row(
            "the model refuses the task", AGENT, "refused the task: bad idea",
            reply=Reply(extra={"refusal": "bad idea"}),
        ),
        "filter": Row(
            "its content filter stops the answer", AGENT, "refused the task: the content filter",
            reply=Reply([text("x")], stop_reason="content_filter"),
        ),
        "no report": Row(
            "the model ends without a report", AGENT, "without a report", reply=Reply([text("Trust me.")]),
            asks={"openai": 2},
        ),
        "unknown end": Row(
            "an answer ends for a reason that nobody knows, without a report", AGENT, "without a report",
            reply=Reply([text("Trust me.")], stop_reason="weather"), asks={"openai": 2},
        ),
        "budget": Row(
            "the session has spent its cap", BUDGET, r"cap of \$0\.00", reply=Reply([text("x" * 4_000)]),
            limits={"cost_micros_max": 4_000},
        ),
    }.items()
}  # fmt: skip

#: By what a session of each backend with a model asks.
OF_MODELS = {"anthropic": MESSAGES, "claude-code": MESSAGES, "openai": CHAT}

#: Of the lines of a plan.
COMMAND: dict[str, Row] = {
    name: Row(does, failure, words, given=given, limits=limits, backends=("command",))
    for name, (does, failure, words, given, limits) in {
        "exit code": ("a line fails", AGENT, "exit code 3: exit 3", {"run": ("exit 3",)}, {}),
        "signal": ("a line is ended by a signal", AGENT, "ended by SIGKILL", {"run": ("kill -9 $$",)}, {}),
        "gate": (
            "a line of the gate fails", GATE, "exit code 1: false",
            {"verify": ("false",), "kind": AttemptKind.GATE}, {},
        ),
        "no lines": ("there is nothing to run", PLAN, "no lines to run", {}, {}),
        "silence": (
            "a line says nothing", TIMEOUT, "silent for 0.5 s", {"run": ("sleep 60",)},
            {"idle_timeout_s": 0.5},
        ),
        "too long": (
            "a line does not end", TIMEOUT, "longer than 1 s",
            {"run": ("while echo on; do sleep 0.05; done",)}, {"total_timeout_s": 1},
        ),
    }.items()
}  # fmt: skip

#: Of what is pretended.
SIMULATED: dict[str, Row] = {
    name: Row(
        does, failure, words, given={"options": {"simulate": says}}, limits=limits, backends=("simulated",)
    )
    for name, (does, failure, words, says, limits) in {
        "fail": ("it is to fail", AGENT, r"\[simulated\] Attempt 1 was to fail", "1ms fail 1", {}),
        "too long": (
            "it is to take too long", TIMEOUT, "longer than 0.01 s", "9s", {"total_timeout_s": 0.01}
        ),
        "nonsense": ("it is told nonsense", PLAN, "not a duration", "often", {}),
    }.items()
}  # fmt: skip

ROWS = {"messages": MESSAGES, "chat": CHAT, "command": COMMAND, "simulated": SIMULATED}


def is_as_expected(outcome: Outcome, row: Row) -> bool:
    """Tell whether state and class of an outcome are those of a row."""
    state = AttemptState.TIMED_OUT if row.failure_class is TIMEOUT else AttemptState.FAILED
    return (outcome.state, outcome.failure_class) == (state, row.failure_class)
