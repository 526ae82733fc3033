"""Following what the sessions of a task write, until the task has ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from orchestrator.core.words import LIVE, SETTLED
from orchestrator.errors import OrchestratorError

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.views import LogView, TaskDetail

#: Sessions store what they write once a second; this much later it is here at the latest.
_POLL_S = 0.5


def follow_logs(
    client: Client, task_id: int, *, attempt: int = 0, on_waiting: Callable[[TaskDetail], None]
) -> Iterator[LogView]:
    """Yield what was written and what comes, each piece once, also when the connection breaks meanwhile.

    Args:
        attempt: number of the only attempt to follow, gates included; 0 = all of them.
        on_waiting: called when no session works on the task, and again when its state or reason changes.
    """
    from orchestrator.client.patience import Patience

    following = _Following(client, attempt=attempt)
    patience = Patience(total_s=math.inf)
    told = ("", "")
    while True:
        try:
            task = client.task(str(task_id))
            yield from following.more(task)
            standing = (task.state, task.reason)
            if standing != told and not any(each.state in LIVE for each in task.attempts):
                on_waiting(task)
            told = standing
            patience.renew()
        except OrchestratorError as error:
            time.sleep(patience.delay_s(error))
            continue
        if task.state in SETTLED:
            return
        time.sleep(_POLL_S)


class _Following:
    """How far each attempt has been read."""

    def __init__(self, client: Client, *, attempt: int) -> None:
        self._client = client
        self._attempt = attempt
        self._seen: dict[int, int] = {}  #: by token: seq of the last piece
        self._over: set[int] = set()  #: tokens of attempts that had ended when they were read last

    def more(self, task: TaskDetail) -> Iterator[LogView]:
        """Yield what is new; a transcript is stored before the end of its attempt."""
        for one in task.attempts:
            if one.token in self._over or self._attempt not in (0, one.number):
                continue
            pieces = self._client.logs(task.id, token=one.token, after=self._seen.get(one.token, 0))
            if pieces:
                self._seen[one.token] = pieces[-1].seq
            if one.state not in LIVE:
                self._over.add(one.token)
            yield from pieces
