"""`python -m cluster.encryption [--json]`: puts everything that is encrypted under a new key.

While nothing else runs in the home: makes a key, unless an earlier rotation has left some work; starts the
database; encrypts anew in batches; and forgets the old keys once nothing needs them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from cluster.database import HostDatabase
from cluster.home import HostHome
from orchestrator.errors import Interrupted, OrchestratorError
from orchestrator.settings import Settings, load_settings
from orchestrator.store.crypto import FieldKeys, known_keys, new_key, write_keys
from orchestrator.store.migrate import prepare
from orchestrator.store.roles import connect
from orchestrator.store.rotation import key_ids_in_use, reencrypt


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """What a rotation came to: pieces of transcripts and journals, and ids of keys that nothing needs.

    Attributes:
        is_given: the keys are those of the settings, which only a person changes.
    """

    key_id: str
    encrypted: int
    unreadable: int
    retired: tuple[str, ...]
    is_given: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Rotate the keys; return the exit code."""
    parser = argparse.ArgumentParser(prog="orchestrator encryption rotate", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    is_json = parser.parse_args(argv).json
    try:
        rotated = rotate(load_settings())
    except OrchestratorError as error:
        sys.stdout.write(_refusal_as_json(error) if is_json else "")
        sys.stderr.write("" if is_json else f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; call it again and it goes on with what is left.\n")
        return Interrupted.exit_code
    sys.stdout.write(_as_json("data", asdict(rotated)) if is_json else _as_text(rotated))
    return 0


def rotate(settings: Settings) -> Rotated:
    """Encrypt everything under the newest key; the home must have no stack.

    Raises:
        EnvironmentFault: something runs in the home, or the database does not start.
        SettingsError: a key is malformed.
    """
    home = HostHome(settings.home)
    with home.held():
        database = HostDatabase(settings)
        urls = database.start()
        try:
            prepare(urls)
            keys = _next_keys(settings, home)
            batches = list(reencrypt(urls.service, keys))
            with connect(urls.service) as connection:
                needed = {keys.newest_id, *key_ids_in_use(connection)}
        finally:
            database.stop()
        kept = [key for key, key_id in zip(keys.keys, keys.ids, strict=True) if key_id in needed]
        if not _are_given(settings):
            write_keys(settings.home, kept)
    return Rotated(
        key_id=keys.ids[0],
        encrypted=sum(batch.encrypted for batch in batches),
        unreadable=sum(batch.unreadable for batch in batches),
        retired=tuple(key_id for key_id in keys.ids if key_id not in needed),
        is_given=_are_given(settings),
    )


def _next_keys(settings: Settings, home: HostHome) -> FieldKeys:
    """Return the keys, a new one in front; as they are where a rotation is unfinished, or settings give them.

    The new key is in the file before anything is encrypted under it.
    """
    keys = home.keys(settings)
    if _are_given(settings) or len(keys.keys) > 1:
        return keys
    write_keys(settings.home, (new_key(), *keys.keys))
    return known_keys(settings)


def _are_given(settings: Settings) -> bool:
    return bool(settings.encryption.keys.get_secret_value())


def _as_text(rotated: Rotated) -> str:
    lines = [
        f"Encrypted {rotated.encrypted:,} pieces of transcripts and journals under the key {rotated.key_id}."
    ]
    if rotated.unreadable:
        lines.append(f"{rotated.unreadable:,} pieces stay as they are: their key is lost.")
    if rotated.retired:
        what = (
            "take it out of `encryption.keys`" if rotated.is_given else "it is gone from the file of the keys"
        )
        lines.append(f"Nothing here needs {', '.join(rotated.retired)} any more: {what}.")
        lines.append("What older backups of the database hold can be read only with a copy of it.")
    return "".join(f"{line}\n" for line in lines)


def _refusal_as_json(error: OrchestratorError) -> str:
    said = {"code": type(error).__name__, "message": error.message, "remedy": error.remedy}
    return _as_json("error", said | {"exit_code": error.exit_code})


def _as_json(name: str, content: object) -> str:
    return json.dumps({"schema_version": 1, name: content}) + "\n"


if __name__ == "__main__":
    sys.exit(main())
