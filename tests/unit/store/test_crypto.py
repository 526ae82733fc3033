"""Encryption of fields: which key encrypts, which decrypt, and that no key is ever shown."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cluster.home import HostHome
from orchestrator.errors import SettingsError
from orchestrator.settings import Settings, load_settings
from orchestrator.store.crypto import KEYS_FILE, NO_KEYS, FieldKeys, known_keys, new_key, write_keys

TEXT = b"what a session said"


def test_the_newest_key_encrypts_and_every_key_decrypts() -> None:
    old, new = new_key(), new_key()
    of_old, of_both = FieldKeys([old]), FieldKeys([new, old])
    key_id, stored = of_old.seal(TEXT)
    assert TEXT not in stored
    assert (key_id, of_both.newest_id) == (of_both.ids[1], of_both.ids[0])
    assert of_both.unseal(key_id, stored) == TEXT
    newer_id, anew = of_both.seal(TEXT)
    assert newer_id == of_both.newest_id
    assert of_both.unseal(newer_id, anew) == TEXT
    assert of_old.unseal(newer_id, anew) is None


def test_what_was_changed_is_not_taken_for_what_was_stored() -> None:
    keys = FieldKeys([new_key()])
    key_id, stored = keys.seal(TEXT)
    for position in (0, 20, len(stored) - 1):
        changed = bytearray(stored)
        changed[position] ^= 1
        assert keys.unseal(key_id, bytes(changed)) is None
    assert keys.unseal(key_id, stored[:-16]) is None


def test_without_a_key_values_stay_as_they_are() -> None:
    assert NO_KEYS.seal(TEXT) == (None, TEXT)
    assert FieldKeys([new_key()]).unseal(None, TEXT) == TEXT
    assert NO_KEYS.unseal(*FieldKeys([new_key()]).seal(TEXT)) is None


def test_keys_travel_and_are_never_shown() -> None:
    key = new_key()
    keys = FieldKeys([key])
    assert pickle.loads(pickle.dumps(keys)).unseal(*keys.seal(TEXT)) == TEXT
    assert key not in repr(keys) + str(keys) + f"{keys.newest_id}"
    with pytest.raises(SettingsError) as refused:
        FieldKeys([key[:-3]])
    assert key[:8] not in str(refused.value)


def test_the_home_makes_a_key_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert known_keys(settings).ids == ()
    made = HostHome(tmp_path).keys(settings)
    assert (tmp_path / KEYS_FILE).stat().st_mode & 0o777 == 0o600
    assert len(made.ids) == 1
    assert HostHome(tmp_path).keys(settings).keys == known_keys(settings).keys == made.keys
    write_keys(tmp_path, (new_key(), *made.keys))
    assert (tmp_path / KEYS_FILE).stat().st_mode & 0o777 == 0o600
    assert known_keys(settings).ids[1:] == made.ids


def test_keys_of_the_settings_go_before_those_of_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer, older = new_key(), new_key()
    monkeypatch.setenv("ORCHESTRATOR_ENCRYPTION__KEYS", f"{newer} {older}")
    settings = load_settings(tmp_path)
    assert HostHome(tmp_path).keys(settings).keys == (newer, older)
    assert not (tmp_path / KEYS_FILE).exists()
    assert newer not in repr(settings) + settings.model_dump_json()
