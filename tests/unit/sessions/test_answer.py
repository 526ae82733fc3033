"""An answer of the Messages API, put together from the events of its stream."""

from __future__ import annotations

from typing import Any

from orchestrator.ports import Usage
from orchestrator.sessions.models.answer import Answer
from tests.support.messages_api import Block, Reply, call, events_of, text, thinking

USAGE = {
    "input_tokens": 10,
    "output_tokens": 500,
    "cache_read_input_tokens": 30,
    "cache_creation_input_tokens": 20,
}


def events(*blocks: Block, **ending: Any) -> list[dict[str, Any]]:
    message = {"content": list(blocks), "stop_reason": "tool_use", "usage": USAGE, **ending}
    return list(events_of(Reply(blocks), message))


def answer_of(found: list[dict[str, Any]]) -> Answer:
    answer = Answer()
    for event in found:
        answer.add(event)
    return answer


def test_blocks_come_together_from_their_pieces_as_they_were() -> None:
    blocks = (
        thinking("a thought of some length"),
        text("word " * 20),
        call("bash", command="echo 'ä' \"x\""),
    )
    answer = answer_of(events(*blocks))
    assert answer.blocks == list(blocks)
    assert answer.calls == [blocks[2]]
    assert answer.text == "word " * 20
    assert answer.stop_reason == "tool_use"
    assert answer.tokens == Usage(
        input_tokens=10, output_tokens=500, cache_read_tokens=30, cache_write_tokens=20
    )


def test_a_call_without_input_and_one_whose_input_is_no_object() -> None:
    assert answer_of(events({**call("report"), "input": {}})).calls[0]["input"] == {}
    cut = events(call("bash", command="echo"))
    pieces = [event for event in cut if event["type"] == "content_block_delta"]
    assert answer_of([event for event in cut if event is not pieces[-1]]).calls[0]["input"] == {}
    pieces[1]["delta"]["partial_json"] = "[1]"
    del cut[cut.index(pieces[1]) + 1 : cut.index(pieces[-1]) + 1]
    assert answer_of(cut).calls[0]["input"] == {}


def test_what_cannot_be_sent_back_is_no_block() -> None:
    unsigned = {**thinking("cut off"), "signature": ""}
    assert answer_of(events(unsigned, text(" \n"), text("kept"))).blocks == [text("kept")]


def test_an_answer_that_broke_off_has_begun_and_its_length_is_estimated() -> None:
    whole = events(text("x" * 700))
    assert not Answer().has_begun
    for number in range(1, len(whole) - 1):
        answer = answer_of(whole[:number])
        assert answer.has_begun
        assert not answer.stop_reason
        arrived = 7 * max(0, min(number - 3, 100))
        assert answer.tokens.output_tokens == max(1, arrived // 4)


def test_refusals_and_clearing_are_read_from_the_end() -> None:
    refused = answer_of(
        events(stop_reason="refusal", stop_details={"type": "refusal", "explanation": "bad idea"})
    )
    assert (refused.stop_reason, refused.refusal) == ("refusal", "bad idea")
    edits = [{"type": "clear_tool_uses_20250919", "cleared_input_tokens": 70}] * 2
    assert answer_of(events(text("x"), context_management={"applied_edits": edits})).cleared_tokens == 140
