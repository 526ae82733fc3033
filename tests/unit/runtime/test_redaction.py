"""What is taken out of what sessions say, wherever the text is cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.runtime.redaction import REDACTED, Redaction, passwords_in, secrets_in
from orchestrator.settings import Settings

#: Built of parts, so that no scanner of repositories takes them for real.
PRIVATE_KEY = (
    "-----BEGIN EC PRIVATE " + "KEY-----\n" + "MHcCAQEEIB+x\n" * 5 + "-----END EC PRIVATE " + "KEY-----"
)
SHAPED = (
    "sk-" + "ant-api03-" + "Ab1_" * 20,
    "sk_" + "live_" + "a1B2" * 6,
    "gh" + "p_" + "x9Y8" * 9,
    "github" + "_pat_" + "x9Y8" * 9,
    "AKI" + "A" + "J2K4" * 4,
    "AIz" + "a" + "Sy" + "d" * 33,
    "xox" + "b-" + "1234-abcd" * 2,
    "ey" + "J" + "hbGciOi" * 3 + ".ey" + "J" + "zdWIiOi" * 3 + "." + "s1g_" * 6,
    PRIVATE_KEY,
)
KNOWN = "correct horse battery"


def in_pieces(text: str, cuts: list[int]) -> str:
    """Return what is told of a text that comes in pieces."""
    redaction, told, waiting = Redaction([KNOWN]), "", ""
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    for start, end in zip([0, *ends], ends, strict=False):
        more, waiting = redaction.split(waiting + text[start:end])
        told += more
    return told + redaction.whole(waiting)


@pytest.mark.parametrize("secret", [*SHAPED, KNOWN], ids=lambda secret: secret[:12])
def test_a_secret_is_taken_out_and_what_is_around_it_stays(secret: str) -> None:
    text = f"export A={secret}\nand ({secret}), twice\n"
    expected = f"export A={REDACTED}\nand ({REDACTED}), twice\n"
    assert Redaction([KNOWN]).whole(text) == expected
    for cut in range(len(text)):
        assert in_pieces(text, [cut]) == expected


def test_passwords_in_urls_and_headers_are_taken_out() -> None:
    whole = Redaction().whole
    assert whole("at postgresql://me:pass@host:5432/db") == f"at postgresql://{REDACTED}@host:5432/db"
    assert whole("Authorization: Bearer abcdefgh.ijklmnop12") == f"Authorization: Bearer {REDACTED}"


@pytest.mark.parametrize(
    "text",
    [
        "task-about-something-that-is-long-enough",
        "http://127.0.0.1:8000/docs for me@example.org",
        "commit 0123456789abcdef0123456789abcdef01234567",
        "the public part: -----BEGIN PUBLIC KEY-----\nMFkw\n",
        "bearer of news",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redaction([KNOWN, "something"]).whole(text) == text


@given(
    st.lists(st.sampled_from([*SHAPED, KNOWN, "words ", "\n", "x" * 5_000, " - "]), max_size=8),
    st.lists(st.integers(0, 20_000), max_size=12),
)
def test_however_text_is_cut_no_part_of_a_secret_is_told(parts: list[str], cuts: list[int]) -> None:
    text = "\n".join(parts)
    told = in_pieces(text, cuts)
    assert told == Redaction([KNOWN]).whole(text)
    assert not [secret for secret in (*SHAPED, KNOWN) if secret[-12:] in told]


def test_a_line_without_an_end_does_not_wait_for_ever() -> None:
    redaction, waiting, told = Redaction([KNOWN]), "", 0
    for _ in range(100):
        more, waiting = redaction.split(waiting + "x" * 1_000)
        told += len(more)
        assert len(waiting) <= 4_096
    assert told + len(waiting) == 100_000


def test_a_private_key_without_an_end_is_not_told_either() -> None:
    begin = PRIVATE_KEY.partition("\n")[0]
    told = in_pieces(begin + "\n" + "A" * 60 + "\n", [])
    assert told == REDACTED


def test_the_secrets_of_the_settings_are_found_wherever_they_stand(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        anthropic={"api_key": "the key of the api"},
        database={"url": "postgresql://me:p%40ssword-1@127.0.0.1/db"},
    )
    found = {*secrets_in(settings)}
    assert found >= {"the key of the api", "p%40ssword-1", "p@ssword-1"}
    assert {*passwords_in("no url at all"), *passwords_in("http://[broken")} == set()
