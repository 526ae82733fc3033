"""The HTTP front end as a Ray Serve application: one deployment, whose replicas only read and ask.

Streams last for ever, so Serve's own end-to-end timeout stays off; `limits` bounds every other request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from actors.gateway import RayScheduler
from actors.governor import governors_of
from actors.options import CONCURRENCY, ActorConfig
from orchestrator.routing import Routing
from orchestrator.runtime.service import Service
from orchestrator.settings import Http
from orchestrator.store.engine import make_engine
from serve_app.app import create_app
from serve_app.replica_port import stay_on_node_address

APPLICATION = "orchestrator"

_STOP_S = 2.0


class HttpFront:
    """A replica of the front end.

    Args:
        token: what requests must carry.
    """

    def __init__(self, config: ActorConfig, token: str) -> None:
        stay_on_node_address()
        self._config = config
        self._token = token

    def __repr__(self) -> str:
        return "HttpFront()"

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application; Serve runs its lifespan in the replica."""
        return create_app(self._service, token=self._token, http=self._config.settings.http)

    @asynccontextmanager
    async def _service(self) -> AsyncIterator[Service]:
        settings = self._config.settings
        service = Service(
            engine=make_engine(self._config.api_url, name="orchestrator-http"),
            scheduler=RayScheduler(),
            routing=Routing.from_settings(settings),
            settings=settings,
            keys=self._config.keys,
            governors=governors_of(settings),
        )
        try:
            yield service
        finally:
            await service.close()


def application(config: ActorConfig, *, token: str) -> Application:
    """Return the application, to be run by Serve."""
    front = serve.deployment(
        name="http",
        max_ongoing_requests=CONCURRENCY,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=_STOP_S,  # streams do not end by themselves; their readers resume
        graceful_shutdown_wait_loop_s=0.5,
    )(serve.ingress()(HttpFront))
    bound: Application = front.bind(config, token)
    return bound


def start(config: ActorConfig, *, token: str) -> None:
    """Serve HTTP on the address of the settings; returns once it answers. Ray must be joined.

    The caller checks before that the port is free: a proxy that cannot bind is only in Serve's log.
    """
    serve.start(proxy_location="HeadOnly", http_options=http_options(config.settings.http))
    serve.run(application(config, token=token), name=APPLICATION, route_prefix="/")


def stop() -> None:
    """End Serve with everything it started."""
    serve.shutdown()  # type: ignore[no-untyped-call]


def http_options(http: Http) -> dict[str, object]:
    """Return the options of Serve's proxy."""
    return {"host": http.host, "port": http.port, "request_timeout_s": None}
