"""HTTP client of a running orchestrator, blocking (`Client`) and asynchronous (`AsyncClient`).

Both are thin: what a call sends and how its answer is read stands once, in `calls` and `problems`; when it
is sent again, in `patience`.
"""

from orchestrator.client.asynchronous import AsyncClient
from orchestrator.client.blocking import Client

__all__ = ["AsyncClient", "Client"]
