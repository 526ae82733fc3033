"""Excerpts and the tap that feeds the transcript."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.sessions.output import Excerpt, OutputTap
from tests.support.sessions import Recorder


@given(st.lists(st.text()), st.integers(0, 5), st.integers(1, 5))
def test_an_excerpt_is_head_and_tail(texts, head_max, tail_max):
    excerpt = Excerpt(head_max=head_max, tail_max=tail_max)
    for text in texts:
        excerpt.add(text)
    whole = "".join(texts)
    if len(whole) <= head_max + tail_max:
        assert excerpt.text == whole
    else:
        left_out = len(whole) - head_max - tail_max
        middle = f"\n[... {left_out} characters left out ...]\n"
        assert excerpt.text == whole[:head_max] + middle + whole[-tail_max:]


@given(st.text(), st.integers(1, 7))
def test_the_tap_passes_everything_on_in_whole_lines(text, size):
    transcript = Recorder()
    tap = OutputTap(transcript, bytes_max=10_000)
    raw = text.encode()
    passed = "".join(tap.add("stdout", raw[start : start + size]) for start in range(0, len(raw), size))
    assert passed == "" or passed.endswith("\n")
    assert passed + tap.finish() == text
    assert transcript.text("stdout") == text


def test_streams_do_not_mix_within_a_line():
    transcript = Recorder()
    tap = OutputTap(transcript, bytes_max=100)
    for stream, chunk in (("stdout", b"one "), ("stderr", b"other\n"), ("stdout", b"line\n")):
        tap.add(stream, chunk)
    assert transcript.entries == [("stderr", "other\n"), ("stdout", "one line\n")]
