"""Encryption of single fields: Fernet, which is AES-128-CBC with HMAC-SHA256, under several keys at once.

Beside each encrypted value stands the id of its key, so that it can be told which keys are still needed. The
newest key encrypts, every key decrypts. Without any key, values are stored as they are, with no key id.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from orchestrator.errors import EnvironmentFault, SettingsError
from orchestrator.settings import Settings

#: The keys in ORCHESTRATOR_HOME: one a line, the newest first.
KEYS_FILE = "encryption-keys"


def _key_id(key: str) -> str:
    """Return a short name of a key that tells nothing of it."""
    return sha256(f"key id {key}".encode()).hexdigest()[:12]


class FieldKeys:
    """The keys of one installation, the newest first. Never shows a key; survives pickling.

    Args:
        keys: each 32 bytes in URL-safe base64, as `new_key` makes them.

    Raises:
        SettingsError: one of them is no such key.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys]) if keys else None
        except ValueError:
            raise SettingsError(
                "A key of the encryption is malformed: it must be 32 bytes in URL-safe base64.",
                remedy=f"Mend `encryption.keys`, or the file `{KEYS_FILE}` in ORCHESTRATOR_HOME.",
            ) from None
        self.keys = tuple(keys)
        self.ids = tuple(map(_key_id, keys))

    def __reduce__(self) -> tuple[object, ...]:
        return (FieldKeys, (self.keys,))

    def __repr__(self) -> str:
        return f"FieldKeys({', '.join(self.ids)})"

    @property
    def newest_id(self) -> str | None:
        """Id of the key that encrypts; None if there is none."""
        return self.ids[0] if self.ids else None

    def seal(self, data: bytes) -> tuple[str | None, bytes]:
        """Encrypt; return the id of the key and the bytes to store."""
        if self._fernet is None:
            return None, data
        return self.newest_id, urlsafe_b64decode(self._fernet.encrypt(data))

    def unseal(self, key_id: str | None, stored: bytes) -> bytes | None:
        """Return what was encrypted; None if its key is not among ours, or the bytes were changed."""
        if key_id is None:
            return stored
        if self._fernet is None or key_id not in self.ids:
            return None
        try:
            return self._fernet.decrypt(urlsafe_b64encode(stored))
        except InvalidToken:
            return None


#: Nothing is encrypted, and nothing encrypted can be read.
NO_KEYS = FieldKeys()


def new_key() -> str:
    """Return a new random key."""
    return Fernet.generate_key().decode()


def known_keys(settings: Settings) -> FieldKeys:
    """Return the keys of the settings, else those in the home; none where no stack has started yet.

    Raises:
        SettingsError: a key is malformed.
        EnvironmentFault: the file cannot be read.
    """
    given = settings.encryption.keys.get_secret_value()
    path = settings.home / KEYS_FILE
    try:
        return FieldKeys((given or path.read_text(encoding="utf-8")).split())
    except FileNotFoundError:
        return NO_KEYS
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(
            f"The keys of the encryption in {path} cannot be read: {error}.",
            remedy="Mend its permissions, or bring back a copy of the file.",
        ) from error


def write_keys(home: Path, keys: Sequence[str]) -> None:
    """Replace the keys in the home in one step, readable by their owner alone.

    Raises:
        EnvironmentFault: the file cannot be written; the old one stays.
    """
    path = home / KEYS_FILE
    half = home / f".{KEYS_FILE}.new"
    try:
        half.unlink(missing_ok=True)
        half.touch(mode=0o600)
        half.write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
        half.replace(path)
    except OSError as error:
        raise EnvironmentFault(
            f"The keys of the encryption in {path} cannot be written: {error.strerror or error}.",
            remedy="Free some space, or mend the permissions of the home.",
        ) from error
