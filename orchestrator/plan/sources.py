"""The texts of a plan: one file, or several below a folder, by their paths; the only one by an empty path."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256


def digest_of(files: Mapping[str, str]) -> str:
    """Return the sha256 of the texts, hex. Of one file it is that of its text."""
    if list(files) == [""]:
        return _sha256(files[""])
    return _sha256("".join(f"{path}\0{_sha256(files[path])}\n" for path in sorted(files)))


def _sha256(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
