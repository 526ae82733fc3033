"""Every error of the orchestrator, one tree.

    OrchestratorError
    ├── PlanError                 the plan is at fault; its author mends it
    ├── SettingsError             a setting is unknown, malformed or contradictory
    ├── EnvironmentFault          the machine is at fault: port, disk, permission, missing program
    │   ├── DatabaseUnavailable   no PostgreSQL answers; wait or mend the URL
    │   └── ServerUnavailable     no orchestrator answers at the address; wait or start one
    ├── RequestRefused            a request that cannot be met as asked
    │   ├── NotFound              the plan, task or agent type does not exist
    │   ├── Conflict              the thing is in a state that does not allow the request
    │   ├── Unauthorized          the token is missing or wrong
    │   └── Overloaded            the scheduler is starting or the database is away; try again later
    │       └── QueueFull         more waits already than may wait; slow down
    ├── Interrupted               the person at the terminal asked to stop
    ├── Fenced                    a token or epoch is no longer valid; stop writing
    └── InvariantViolation        our own bug: crash, never retry

Every message names the thing, the reason and the remedy. All of them survive pickling, because they
cross process borders, and each carries the exit code that the command line ends with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class OrchestratorError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: what is wrong with which thing, and why.
        remedy: what the reader can do about it, one imperative sentence; empty if nothing.
    """

    exit_code = 1
    retryable = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), dict(self.__dict__)))


def _rebuild(cls: type[OrchestratorError], attributes: dict[str, object]) -> OrchestratorError:
    error = cls.__new__(cls)
    error.__dict__.update(attributes)
    error.args = (attributes.get("message", ""),)
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One remark about a plan.

    Attributes:
        line: 1-based line in the source; 0 when it concerns the whole plan.
        number, code: `P201` and `duplicate-id`; both are stable, see orchestrator/plan/findings.py.
        message: the thing and the reason; remedy: what the author can do about it.
        severity: `error` refuses the plan, `warning` is shown and the plan goes on.
        source: the file, when the plan is a folder; else empty.
    """

    line: int
    number: str
    code: str
    message: str
    remedy: str
    severity: str
    source: str = ""


class PlanError(OrchestratorError):
    """Raised when a plan cannot be stored or run; nothing of it was stored."""

    exit_code = 3

    def __init__(self, message: str, *, remedy: str = "", findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.findings = findings


class SettingsError(OrchestratorError):
    """Raised when a setting or an option is unknown, malformed or contradicts another."""

    exit_code = 2


class EnvironmentFault(OrchestratorError):
    """Raised when the machine refuses: port in use, disk full, no permission, program missing."""

    exit_code = 6


class DatabaseUnavailable(EnvironmentFault):
    """Raised when PostgreSQL does not answer or refuses the user; callers may retry."""

    retryable = True


class ServerUnavailable(EnvironmentFault):
    """Raised when no orchestrator answers at its address, or the connection broke; callers may retry."""

    retryable = True


class RequestRefused(OrchestratorError):
    """Base of requests that are understood and cannot be met as asked."""


class NotFound(RequestRefused):
    """Raised when the named plan, task, attempt or agent type does not exist for this tenant."""

    exit_code = 4


class Conflict(RequestRefused):
    """Raised when the thing exists in a state that does not allow the request."""


class Unauthorized(RequestRefused):
    """Raised when the token is missing, wrong or not allowed to do this."""

    exit_code = 7


class Overloaded(RequestRefused):
    """Raised when the service cannot take the request now; retry after `retry_after_s`."""

    retryable = True

    def __init__(self, message: str, *, remedy: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class QueueFull(Overloaded):
    """Raised when as much waits as may wait: callers ask faster than is committed."""


class Interrupted(OrchestratorError):
    """Raised when the person at the terminal asked to stop; what was recorded stays."""

    exit_code = 130


class Fenced(OrchestratorError):
    """Raised when this process no longer holds the token or epoch under which it writes."""


class InvariantViolation(OrchestratorError):
    """Raised when the state contradicts itself. Our bug: the process must stop, not retry."""


def rebuild(
    code: str,
    *,
    message: str,
    remedy: str = "",
    findings: Iterable[Mapping[str, Any]] = (),
    retry_after_s: float = 1.0,
    default: type[OrchestratorError] = OrchestratorError,
) -> OrchestratorError:
    """Return an error of the class named `code`, of `default` if there is none of that name."""
    cls = globals().get(code)
    if not (isinstance(cls, type) and issubclass(cls, OrchestratorError)):
        cls = default
    if issubclass(cls, PlanError):
        return cls(message, remedy=remedy, findings=tuple(Finding(**finding) for finding in findings))
    if issubclass(cls, Overloaded):
        return cls(message, remedy=remedy, retry_after_s=retry_after_s)
    return cls(message, remedy=remedy)
