"""What travels between actors arrives as it was."""

from __future__ import annotations

import pickle

from actors.wire import pack, unpack
from orchestrator.core.events import AttemptEnded
from orchestrator.core.words import AttemptState, FailureClass


def test_ends_arrive_as_they_were() -> None:
    ended = [
        AttemptEnded(
            token=7,
            state=AttemptState.SUCCEEDED,
            failure_class=None,
            summary="done",
            cost_micros=3,
        ),
        AttemptEnded(
            token=8,
            state=AttemptState.FAILED,
            failure_class=FailureClass.AGENT,
            summary="",
            cost_micros=0,
        ),
    ]
    assert unpack(pickle.loads(pickle.dumps(pack(ended)))) == ended


def test_only_plain_values_travel() -> None:
    end = AttemptEnded(
        token=7,
        state=AttemptState.TIMED_OUT,
        failure_class=FailureClass.TIMEOUT,
        summary="s",
        cost_micros=1,
    )
    ((token, state, failure, summary, cost_micros),) = pack([end])
    assert [type(value) for value in (token, state, failure, summary, cost_micros)] == [
        int,
        str,
        str,
        str,
        int,
    ]
