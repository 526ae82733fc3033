"""PostgreSQL and Ray with the real actors, in a process of its own that does what it is told over stdio.

    python -m tests.support.actor_stack HOME SETTINGS

SETTINGS is a JSON object. One JSON array a line, `[operation, arguments…]`; each is answered by
`{"answer": …}` or `{"error": [class, message]}`. It ends with its stdin. Operations are the methods whose
names begin with `op_`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.ray_environment import apply_ray_environment
from orchestrator.errors import OrchestratorError
from orchestrator.settings import Settings, load_settings
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.store.migrate import prepare
from orchestrator.store.urls import DatabaseUrls
from tests.support.actor_config import actor_config
from tests.support.processes import ROOT, UNCONTAINED, foreign_environment, ray_token_file

SETTINGS = {
    "retry": {"backoff_ms": [100]},
    "sessions": {"grace_s": 0.5},
    "pools": {"default": {"slots": 4}},
    "logging": {"level": "warning"},
}


class ActorStack:
    """The caller's end."""

    def __init__(self, process: subprocess.Popen[str], *, log: Path) -> None:
        self._process = process
        self._log = log
        first = self._read()
        self.urls = DatabaseUrls(**first["urls"])

    def _read(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer = json.loads(line)
                if "error" in answer:
                    raise RuntimeError(": ".join(answer["error"]))
                return answer["answer"]
        raise RuntimeError(f"the stack has ended: {self._log.read_text(errors='replace')[-4000:]}")

    def do(self, operation: str, *arguments: object) -> Any:
        """Have something done; raises RuntimeError naming the class of what it raised."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([operation, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._read()


@contextmanager
def actor_stack(
    home: Path,
    *,
    program: str = "tests.support.actor_stack",
    settings: Mapping[str, object] = SETTINGS,
    environment: Mapping[str, str] | None = None,
) -> Iterator[ActorStack]:
    """Run a stack for `home`; afterwards nothing of it is left.

    Args:
        program: the module that is the stack's end.
        environment: what it, and so Ray, finds in its environment beside the usual.
    """
    log_file = home / "stack.log"
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", program, str(home), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=foreign_environment() | UNCONTAINED | dict(environment or {}),
            cwd=ROOT,
            text=True,
        )
    try:
        yield ActorStack(process, log=log_file)
    finally:
        process.communicate(timeout=120)  # its stdin ends


class Operations:
    """What a stack does when it is told to."""

    def __init__(self, home: Path, urls: DatabaseUrls, settings: Settings) -> None:
        from actors.gateway import RayScheduler
        from actors.governor import governors_of
        from orchestrator.routing import Routing
        from orchestrator.runtime.service import Service
        from orchestrator.store.engine import make_engine

        self.urls = urls
        self.service = Service(
            engine=make_engine(urls.api),
            scheduler=RayScheduler(),
            routing=Routing.from_settings(settings),
            settings=settings,
            governors=governors_of(settings),
        )
        self.config = actor_config(home, urls, settings)
        self.start_actors()

    def start_actors(self) -> None:
        """Have the singletons answer."""
        import ray

        from actors.singletons import ensure_governor, ensure_node, ensure_pools, ensure_scheduler

        node_id = ray.get_runtime_context().get_node_id()
        config = self.config
        made = [ensure_scheduler(config), ensure_pools(config), ensure_node(config, node_id)]
        made += [ensure_governor(config, credential) for credential in config.settings.credentials]
        ray.get([actor.ping.remote() for actor in made], timeout=240)

    async def close(self) -> None:
        """Let go of what this process holds."""
        await self.service.close()

    async def op_submit(self, text: str, name: str, workdir: str, backend: str) -> Any:
        from orchestrator.views import SubmitRequest

        request = SubmitRequest(text=text, name=name, workdir=workdir, backend=backend)
        return (await self.service.submit(request)).plan_id

    async def op_request(self, kind: str, ids: dict[str, int]) -> Any:
        return dict(await self.service._scheduler.request(kind, ids, ""))

    async def op_call(self, actor: str, method: str, *arguments: object) -> Any:
        from actors.factory import find

        return await getattr(find(actor), method).remote(*arguments)

    async def op_status(self) -> Any:
        return (await self.service.status()).model_dump(mode="json")

    async def op_end_actor(self, actor: str) -> None:
        """End an actor for good, until somebody makes it again."""
        import ray

        from actors.factory import find

        ray.kill(find(actor))

    async def op_ensure_node(self, node_id: str) -> None:
        """Have the Node actor of a node answer."""
        from actors.singletons import ensure_node

        await ensure_node(self.config, node_id).ping.remote()

    async def op_flood(self, kind: str, ids: dict[str, int], count: int) -> Any:
        """Ask the scheduler so often at once; return the first refusal, and how the scheduler is then."""
        from actors.factory import find
        from actors.options import SCHEDULER

        scheduler = find(SCHEDULER)
        asked = [asyncio.ensure_future(scheduler.request.remote(kind, ids, "")) for _ in range(count)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        refusal = str(done.pop().exception())
        async with asyncio.timeout(120):
            return {"refusal": refusal, "state": (await scheduler.ping.remote())["state"]}

    async def op_names(self, prefix: str) -> Any:
        """Return the names of the actors, dead ones apart, that begin so."""
        from actors.factory import names

        return await asyncio.to_thread(names, prefix)

    async def op_actors(self) -> Any:
        """Return name, shown name, namespace, whether it is detached, and state of every actor."""
        return await asyncio.to_thread(_actors)


async def serve(stack: Operations) -> None:
    """Do what stdin says, until it ends."""
    print(json.dumps({"answer": {"urls": asdict(stack.urls)}}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        operation, *arguments = json.loads(line)
        answer: dict[str, object]
        try:
            answer = {"answer": await getattr(stack, f"op_{operation}")(*arguments)}
        except OrchestratorError as error:
            answer = {"error": [type(error).__name__, str(error)]}
        except Exception as error:  # noqa: BLE001 - it is the caller's
            answer = {"error": [type(error).__name__, str(error).partition("\n")[0]]}
        print(json.dumps(answer), flush=True)
    await stack.close()


def _actors() -> list[tuple[str, str, str, bool, str]]:
    from ray._private.state import state  # the public call needs the dashboard
    from ray.core.generated.gcs_pb2 import ActorTableData  # type: ignore[attr-defined]

    rows = map(ActorTableData.FromString, state._connect_and_get_accessor().get_actor_table(None, None))
    names = ActorTableData.ActorState.Name
    return [(a.name, a.repr_name, a.ray_namespace, a.is_detached, names(a.state)) for a in rows]


@contextmanager
def own_database(home: Path) -> Iterator[DatabaseUrls]:
    """A running PostgreSQL with our tables, of this home."""
    postgres = EmbeddedPostgres(home=home)
    try:
        urls = postgres.start().urls()
        prepare(urls)
        yield urls
    finally:
        postgres.stop()


@contextmanager
def _own_ray(home: Path) -> Iterator[None]:
    """The Ray that the product starts, without the dashboard, at which nobody looks here."""
    apply_ray_environment(token_file=ray_token_file(home))
    from cluster.ray_head import HeadOptions, RayHead

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        tables = folder / "gcs"
        tables.mkdir()
        head = RayHead(
            HeadOptions(
                folder=folder,
                gcs_folder=tables,
                object_store_bytes=100 * 2**20,
                num_cpus=2,
                resources={"executor": 16},
            )
        )
        try:
            head.start()
            yield
        finally:
            head.stop()


def main(home: Path, settings: Mapping[str, object], operations: type[Operations] = Operations) -> None:
    """Run until stdin ends."""
    with own_database(home) as urls, _own_ray(home):
        asyncio.run(serve(operations(home, urls, load_settings(home, settings))))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
