"""What an executor takes out of transcripts and notes."""

from __future__ import annotations

from pathlib import Path

from actors.executor import known_secrets
from actors.options import ActorConfig
from cluster.home import HostHome
from orchestrator.runtime.redaction import REDACTED, Redaction
from orchestrator.settings import Settings
from orchestrator.store.crypto import FieldKeys, new_key


def test_every_way_into_the_stack_is_known(tmp_path: Path) -> None:
    home, key = HostHome(tmp_path), new_key()
    ray_token = home.ray_token_file().read_text()
    config = ActorConfig(
        settings=Settings(home=tmp_path, anthropic={"api_key": "the key of the api"}),
        service_url="postgresql://service:p%40ss-of-service@127.0.0.1/db",
        direct_url="",
        api_url="",
        cluster_id="c",
        records=tmp_path,
        workspaces=tmp_path,
        keys=FieldKeys([key]),
        access=home.access(),
    )
    redaction = Redaction(known_secrets(config))
    for secret in ("the key of the api", "p@ss-of-service", key, home.token(), ray_token):
        assert redaction.whole(f"it is {secret}, he said") == f"it is {REDACTED}, he said"
        assert secret not in repr(config)


def test_where_ray_is_not_ours_no_token_of_it_is_made(tmp_path: Path) -> None:
    home = HostHome(tmp_path)
    assert home.access() == (home.token(),)
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
