"""The Governor actor as a plain object: what executors are told, and what people may ask."""

from __future__ import annotations

from pathlib import Path

from actors.governor import Governor, governor_policy
from actors.options import ActorConfig, governor_name
from orchestrator.grant_ports import GrantDemand, Headroom
from orchestrator.settings import Settings
from orchestrator.store.crypto import NO_KEYS


def governor(home: Path) -> Governor:
    settings = Settings(home=home, governor={"at_once_max": 3, "start_per_s": 100.0})
    config = ActorConfig(
        settings=settings, service_url="", direct_url="", api_url="", cluster_id="c", records=home,
        workspaces=home, keys=NO_KEYS,
    )  # fmt: skip
    return Governor(config, "anthropic")


async def test_it_is_named_for_its_credential_and_ready_at_once(tmp_path: Path) -> None:
    made = governor(tmp_path)
    assert repr(made) == "Governor(anthropic)"
    assert governor_name("anthropic") == "governor-anthropic"
    assert (await made.ping())["state"] == "ready"


async def test_it_gives_leave_by_the_settings_and_tells_how_it_stands(tmp_path: Path) -> None:
    made = governor(tmp_path)
    granted = await made.grant(GrantDemand(executor="executor-a-1", model="m", waiting=9))
    assert granted.requests == 3
    headroom = {"requests": Headroom(limit=600, remaining=100)}
    await made.grant(GrantDemand(executor="executor-a-1", model="m", in_flight=3, headroom=headroom))
    told = await made.status()
    assert (told["in_flight"], told["waiting"], told["pause_s"]) == (3, 0, 0.0)
    assert told["left"] == {"m": {"requests": 100}}


def test_a_governor_of_the_default_settings_is_that_of_the_policy(tmp_path: Path) -> None:
    from orchestrator.runtime.governor import GovernorPolicy

    assert governor_policy(Settings(home=tmp_path)) == GovernorPolicy()


def test_there_is_a_governor_for_each_key(tmp_path: Path) -> None:
    assert Settings(home=tmp_path, anthropic={"api_key": ""}).credentials == ()
    assert Settings(home=tmp_path, anthropic={"api_key": "k"}).credentials == ("anthropic",)
    both = Settings(home=tmp_path, anthropic={"api_key": "k"}, openai={"api_key": "k"})
    assert both.credentials == ("anthropic", "openai")
