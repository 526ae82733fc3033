"""The thin Ray shell: plain classes, made actors in one place (`factory`). No decisions here.

`connect` is what programs use; importing this package imports neither Ray nor a driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.blocking import Orchestrator, connect
    from actors.client import AsyncOrchestrator, PlanResult, aconnect

__all__ = ["AsyncOrchestrator", "Orchestrator", "PlanResult", "aconnect", "connect"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from actors import blocking, client

    return getattr(blocking, name, None) or getattr(client, name)
