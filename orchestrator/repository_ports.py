"""What workspaces and the tables know of the commits of attempts; see ports.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierWork:
    """An attempt whose commits another one begins with.

    Attributes:
        is_own: it was an attempt at the same task; else at one that the task depends on.
    """

    token: int
    key: str
    head_sha: str
    is_own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptCommits:
    """What an attempt left in its repository.

    Attributes:
        base_sha: what it began with; `head_sha` what it left, equal if it changed nothing.
        branch: the name of its commits in the repository.
        files: (path, lines added, lines removed) of each file between the two; None for a binary file.
    """

    token: int
    base_sha: str
    head_sha: str
    branch: str
    files: tuple[tuple[str, int | None, int | None], ...]


class CommitBook(Protocol):
    """Where it is kept which commits are whose. Raises DatabaseUnavailable while the server is away."""

    async def earlier(self, token: int) -> Sequence[EarlierWork]:
        """Return what an attempt begins with: what its task depends on, then the last attempt at it."""

    async def save(self, commits: AttemptCommits) -> None:
        """Keep what an attempt left; the first word on it counts."""
