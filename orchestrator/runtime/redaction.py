"""Takes secrets out of what is said before any of it is stored: those we know, and what looks like one.

Text comes in pieces, and a secret may lie across two of them. So a line is told only once it has ended, and a
private key only once all of it is there; what waits for more is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

#: Stands where a secret stood.
REDACTED = "[redacted]"

#: A shorter secret may be a word like any other, such as `postgres`: only its shape gives it away.
_SECRET_CHARS_MIN = 12

#: Characters of an unfinished line that wait for its rest. No shape is longer, private keys excepted.
_WAITING_MAX = 4_096

#: What secrets look like. A pattern is tried only on text that holds its marker, which is found much faster.
_SHAPES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (marker, re.compile(pattern))
    for marker, pattern in (
        ("sk-", r"(?<![A-Za-z0-9])sk-[\w-]{20,1000}"),  # Anthropic, OpenAI
        ("k_", r"(?<![A-Za-z0-9])[sr]k_(?:live|test)_\w{16,250}"),  # Stripe
        ("gh", r"gh[pousr]_\w{20,250}"),  # GitHub
        ("github_pat_", r"github_pat_\w{20,250}"),
        ("glpat-", r"glpat-[\w-]{20,250}"),  # GitLab
        ("AKIA", r"AKIA[A-Z0-9]{16}"),  # Amazon
        ("ASIA", r"ASIA[A-Z0-9]{16}"),
        ("AIza", r"AIza[\w-]{35}"),  # Google
        ("xox", r"xox[abeoprs]-[\w-]{10,250}"),  # Slack
        ("npm_", r"npm_\w{36}"),
        ("pypi-", r"pypi-[\w-]{50,1000}"),
        ("hf_", r"hf_\w{30,250}"),  # Hugging Face
        ("eyJ", r"(?<![\w-])eyJ[\w-]{8,1200}\.eyJ[\w-]{8,1200}\.[\w-]{8,1200}"),  # JSON Web Tokens
        ("earer ", r"(?<=earer )[\w.~+/=-]{16,2000}"),  # authorization headers
        ("://", r"(?<=://)[^\s/:@]{0,100}:[^\s/@]{1,500}(?=@)"),  # user and password in a URL
        (
            "PRIVATE KEY-----",
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----"
            r"(?:[\s\S]{0,16000}?-----END [A-Z ]{0,30}PRIVATE KEY-----|[\s\S]{0,16000})",
        ),
    )
)


class Redaction:
    """Knows secrets, and what they look like.

    Args:
        secrets: in plain; one of several lines counts line by line, and what is very short is left out.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        self._secrets = sorted(line for line in lines if len(line) >= _SECRET_CHARS_MIN)

    def __repr__(self) -> str:
        return f"Redaction({len(self._secrets)} secrets)"

    def whole(self, text: str) -> str:
        """Return a text that is complete without the secrets in it."""
        if not text:  # most outcomes say next to nothing
            return text
        told, end = [], 0
        for start, stop in sorted(self._spans(text)):
            if start >= end:
                told += [text[end:start], REDACTED]
            end = max(end, stop)
        return "".join((*told, text[end:])) if told else text

    def split(self, text: str) -> tuple[str, str]:
        """Return what may be told of a text that goes on, without secrets, and what waits for more of it."""
        cut = max(text.rfind("\n") + 1, len(text) - _WAITING_MAX)
        for start, stop in sorted(self._spans(text), reverse=True):
            if start < cut and (stop > cut or stop == len(text)):
                cut = start
        return self.whole(text[:cut]), text[cut:]

    def in_json(self, value: object) -> object:
        """Return a JSON value without the secrets in its strings."""
        if isinstance(value, str):
            return self.whole(value)
        if isinstance(value, Mapping):
            return {key: self.in_json(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.in_json(item) for item in value]
        return value

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where secrets stand; they may overlap."""
        for secret in self._secrets:
            start = text.find(secret)
            while start >= 0:
                yield start, start + len(secret)
                start = text.find(secret, start + len(secret))
        for marker, shape in _SHAPES:
            if marker in text:
                yield from (found.span() for found in shape.finditer(text))


def secrets_in(settings: BaseModel) -> Iterator[str]:
    """Yield every secret of the settings, and the passwords in those that are URLs."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from secrets_in(value)
        elif isinstance(value, SecretStr):
            secret = value.get_secret_value()
            yield secret
            yield from passwords_in(secret)


def passwords_in(url: str) -> Iterator[str]:
    """Yield the password of a URL, as it is written there and as it is meant; nothing if there is none."""
    try:
        password = urlsplit(url).password
    except ValueError:  # no URL
        return
    if password:
        yield from {password, unquote(password)}
