"""What the actors of a stack under test are made with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.settings import Settings
from orchestrator.store.crypto import KEYS_FILE, known_keys, new_key
from orchestrator.store.urls import DatabaseUrls

if TYPE_CHECKING:
    from actors.options import ActorConfig


def actor_config(home: Path, urls: DatabaseUrls, settings: Settings) -> ActorConfig:
    """Return it, its folders made. Imports Ray, which reads its environment when it is imported."""
    from actors.options import ActorConfig

    keys = settings.home / KEYS_FILE
    if not keys.exists():
        keys.write_text(new_key(), encoding="utf-8")
        keys.chmod(0o600)
    config = ActorConfig(
        settings=settings,
        service_url=urls.service,
        direct_url=urls.direct,
        api_url=urls.api,
        cluster_id="test",
        records=home / "records",
        workspaces=home / "workspaces",
        keys=known_keys(settings),
    )
    for folder in (config.records, config.workspaces):
        folder.mkdir(exist_ok=True)
    return config
