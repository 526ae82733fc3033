"""Settings: what wins over what, what is refused and in which words, and that nothing leaks."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path

import pytest

from orchestrator.errors import SettingsError
from orchestrator.settings import Settings, load_settings
from orchestrator.settings_example import settings_example


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith(("ORCHESTRATOR_", "DATABASE_URL", "ANTHROPIC_")):
            monkeypatch.delenv(name)


def write(home: Path, text: str, name: str = "settings.toml") -> Path:
    path = home / name
    path.write_text(text, encoding="utf-8")
    return path


def test_overrides_win_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, '[http]\nhost = "::1"\nport = 1\nrequest_timeout_s = 2')
    monkeypatch.setenv("ORCHESTRATOR_HTTP__PORT", "3")
    monkeypatch.setenv("ORCHESTRATOR_HTTP__REQUEST_TIMEOUT_S", "4")

    http = load_settings(tmp_path, {"http": {"request_timeout_s": 5}}).http

    assert (http.host, http.port, http.request_timeout_s) == ("::1", 3, 5.0)
    assert http.body_bytes_max == 20_000_000


def test_home_comes_from_the_environment_and_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    write(tmp_path, "[http]\nport = 7")
    settings = load_settings()
    assert settings.home == tmp_path
    assert settings.file == tmp_path / "settings.toml"
    assert settings.http.port == 7


def test_home_defaults_to_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert load_settings().home == tmp_path / "coditect-orchestrator"


def test_json_file_has_the_same_keys(tmp_path: Path) -> None:
    write(tmp_path, json.dumps({"limits": {"agent_sessions_max": {"a": 2}}}), "settings.json")
    limits = load_settings(tmp_path).limits
    assert dict(limits.agent_sessions_max) == {"a": 2}


def test_named_file_wins_over_the_one_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "[http]\nport = 1")
    other = write(tmp_path, "[http]\nport = 2", "other.toml")
    monkeypatch.setenv("ORCHESTRATOR_SETTINGS", str(other))
    assert load_settings(tmp_path).http.port == 2
    assert load_settings(tmp_path, {"file": tmp_path / "settings.toml"}).http.port == 1


def test_shared_variables_are_read_and_empty_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:word@host/db")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    settings = load_settings(tmp_path)
    assert settings.database.url.get_secret_value() == "postgresql://user:word@host/db"
    assert not settings.database.is_embedded
    assert not settings.credentials

    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    assert load_settings(tmp_path).credentials


def test_secrets_survive_pickling_and_are_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-hidden")
    settings = load_settings(tmp_path)
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings
    assert copy.anthropic.api_key.get_secret_value() == "sk-hidden"
    assert "sk-hidden" not in f"{settings!r}{settings.model_dump_json()}"


def test_pickled_settings_do_not_read_the_environment_of_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pickle.dumps(load_settings(tmp_path))
    monkeypatch.setenv("ORCHESTRATOR_HTTP__PORT", "9")
    assert pickle.loads(data).http.port == 8000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[http]\nprot = 1", "`http.prot` is unknown. Did you mean `http.port`?"),
        ("[htpp]\nport = 1", "`htpp` is unknown. Did you mean `http`?"),
        ("port = 1", "`port` is unknown. Did you mean `http.port`?"),
        ("[pools.default]\nslotz = 1", "Did you mean `pools.default.slots`?"),
        (
            "[http]\nport = 70000",
            "`http.port` = 70000 is refused: Input should be less than or equal to 65535",
        ),
        ("[limits]\nsessions_max = 0", "`limits.sessions_max` = 0 is refused"),
        ("[leases]\nttl_s = 20", "two beats (beat_s) must fit into ttl_s less margin_s"),
        ("home = '/x'", "sets `home`"),
        ("[http", "settings.toml is malformed"),
    ],
)
def test_refused_files_say_what_why_and_what_to_do(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, text)
    with pytest.raises(SettingsError, match=re.escape(message)) as caught:
        load_settings(tmp_path)
    assert caught.value.remedy


def test_a_refused_secret_is_not_shown(tmp_path: Path) -> None:
    write(tmp_path, "[anthropic]\napi_key = 12345678")
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path)
    assert "12345678" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ORCHESTRATOR_HTPP__PORT", "1", "Did you mean ORCHESTRATOR_HTTP__PORT?"),
        ("ORCHESTRATOR_HTTP_PORT", "1", "Did you mean ORCHESTRATOR_HTTP__PORT?"),
        ("ORCHESTRATOR_HTTP__PROT", "1", "Did you mean `http.port`?"),
        ("ORCHESTRATOR_HTTP__PORT", "x", "(from ORCHESTRATOR_HTTP__PORT)"),
        ("ORCHESTRATOR_RETRY__BACKOFF_MS", "1,2", "as JSON"),
        ("ORCHESTRATOR_SETTINGS", "/nowhere/settings.toml", "cannot be read: No such file or directory"),
    ],
)
def test_refused_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=re.escape(message)):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    "variable", ["ORCHESTRATOR_TASK", "ORCHESTRATOR_SERVICE_HOST", "ORCHESTRATOR_CORPUS"]
)
def test_variables_of_others_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    load_settings(tmp_path)


def test_a_pool_takes_what_it_leaves_out_from_the_default(tmp_path: Path) -> None:
    write(
        tmp_path,
        "[pools.default]\nslots = 4\nidle_s = 9\n[pools.agent_types.heavy]\nmemory_mb = 512\nslots = 1",
    )
    pools = load_settings(tmp_path).pools
    assert (pools.of("heavy").slots, pools.of("heavy").memory_mb, pools.of("heavy").idle_s) == (1, 512, 9.0)
    assert (pools.of("other").slots, pools.of("gate").slots) == (4, 4)


def test_a_price_adds_to_the_list_prices(tmp_path: Path) -> None:
    write(tmp_path, "[anthropic.prices.mine]\ninput=1\noutput=2\ncache_read=0\ncache_write=0")
    prices = load_settings(tmp_path).anthropic.prices
    assert prices["mine"].output == 2
    assert prices["claude-sonnet-5-5"].input > 0


def test_example_is_a_valid_file_of_defaults(tmp_path: Path) -> None:
    write(tmp_path, settings_example())
    as_written = load_settings(tmp_path)
    defaults = Settings(home=tmp_path, file=as_written.file)
    assert as_written == defaults

    uncommented = re.sub(r"^#(?=[\w.-]+ = )", "", settings_example(), flags=re.MULTILINE)
    write(tmp_path, uncommented)
    assert load_settings(tmp_path) == defaults
    assert uncommented.count("\n#") < settings_example().count("\n#")


def test_example_names_every_key_with_its_meaning() -> None:
    text = settings_example()
    for line_before, line in zip(text.splitlines(), text.splitlines()[1:], strict=False):
        if re.match(r"#[a-z_]+ = ", line):
            assert line_before.startswith("# "), line
