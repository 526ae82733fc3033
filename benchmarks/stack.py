"""What the benchmarks of the scheduling core run on: PostgreSQL, Ray, a fixed number of executors, plans."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import ray

from actors.factory import Handle, make
from actors.node import Node
from actors.options import (
    NAMESPACE,
    POOLS,
    SCHEDULER,
    ActorConfig,
    executor,
    executor_name,
    node_name,
    singleton,
)
from actors.scheduler import Scheduler
from benchmarks.actors import FixedPools, IdleExecutor, ReferenceExecutor, ReferenceScheduler, Shape, node_id
from orchestrator.runtime.scheduling import ExecutorInfo
from orchestrator.settings import Settings, load_settings
from orchestrator.store.crypto import FieldKeys, new_key
from orchestrator.store.migrate import prepare
from orchestrator.store.urls import DatabaseUrls
from tests.support.postgres import running_server

EXECUTORS = 5
PATIENCE_S = 600.0
POLL_S = 0.1

_PLAN = """
INSERT INTO plans (name, source_digest, backend, state, tasks_total)
VALUES (gen_random_uuid()::text, '', 'simulated', %(state)s, %(tasks)s) RETURNING id
"""
_TASKS = """
INSERT INTO tasks (plan_id, key, ordinal, kind, title, agent_type)
SELECT %(plan)s, 'T' || n, n, 'leaf', 'Task ' || n, %(agent_type)s FROM generate_series(1, %(tasks)s) AS n
"""
_STATES = """
INSERT INTO task_states (task_id, plan_id, state)
SELECT id, plan_id, CASE WHEN (ordinal - 1) %% %(chain)s = 0 THEN 'ready' ELSE 'waiting' END
FROM tasks WHERE plan_id = %(plan)s
"""
_EDGES = """
INSERT INTO task_dependencies (plan_id, task_id, on_task_id, kind, is_explicit)
SELECT plan_id, id, before, 'blocks', true
FROM (SELECT plan_id, id, ordinal, lag(id) OVER (ORDER BY ordinal) AS before FROM tasks
      WHERE plan_id = %(plan)s) AS t
WHERE (ordinal - 1) %% %(chain)s <> 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredStack:
    """A running stack: the product's scheduler over a real database."""

    urls: DatabaseUrls
    config: ActorConfig
    scheduler: Handle
    executors: Sequence[Handle] = ()

    def store_plan(self, shape: Shape, *, state: str = "submitted") -> int:
        """Store a plan that no scheduler has been told of; return its id."""
        values: dict[str, Any] = {
            "tasks": shape.tasks,
            "chain": shape.chain,
            "agent_type": shape.agent_type,
            "state": state,
        }
        with psycopg.connect(self.urls.service) as connection:
            row = connection.execute(_PLAN.encode(), values).fetchone()
            assert row is not None
            values["plan"] = row[0]
            for statement in (_TASKS, _STATES, _EDGES):
                connection.execute(statement.encode(), values)
        with psycopg.connect(self.urls.service, autocommit=True) as connection:
            connection.execute("ANALYZE")
        return int(row[0])

    def rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """Run a statement as the service role."""
        with psycopg.connect(self.urls.service) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def run_plan(self, shape: Shape) -> int:
        """Store a plan, have it taken, and wait for its end; return its id."""
        plan_id = self.store_plan(shape)
        ray.get(self.scheduler.nudge.remote())
        wait_for(lambda: self.state_of(plan_id) == "done")
        return plan_id

    def submit(self, plan_id: int) -> float:
        """Let the scheduler take a plan that was stored inert; return when that was, in monotonic seconds."""
        with psycopg.connect(self.urls.service) as connection:
            connection.execute("UPDATE plans SET state = 'submitted' WHERE id = %s", (plan_id,))
        now_s = time.monotonic()
        ray.get(self.scheduler.nudge.remote())
        return now_s

    def done_of(self, plan_id: int) -> int:
        """Return how many tasks of a plan are done."""
        query = "SELECT count(*) FROM task_states WHERE plan_id = %(plan)s AND state = 'done'"
        return int(self.rows(query, plan=plan_id)[0][0])

    def state_of(self, plan_id: int) -> str:
        """Return the state of a plan."""
        return str(self.rows("SELECT state FROM plans WHERE id = %(plan)s", plan=plan_id)[0][0])


@contextlib.contextmanager
def ray_cluster() -> Iterator[None]:
    """A private Ray of two cores, guarded by the token in the environment; nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            resources={"executor": 2 * EXECUTORS},
            object_store_memory=100 * 2**20,
        )
        try:
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def measured_stack(
    concurrency: int,
    *,
    executor_kind: type = IdleExecutor,
    executor_arguments: tuple[object, ...] = (),
    scheduler_kind: type = Scheduler,
) -> Iterator[MeasuredStack]:
    """The product's actors over a database of its own, warmed by a small plan; needs `ray_cluster`."""
    with running_server() as address, tempfile.TemporaryDirectory() as folder:
        urls = address.urls()
        prepare(urls)
        config = make_config(Path(folder), urls, concurrency=concurrency)
        with (
            executors(executor_kind, config, *executor_arguments) as handles,
            actor(scheduler_kind, SCHEDULER, config) as scheduler,
        ):
            stack = MeasuredStack(urls=urls, config=config, scheduler=scheduler, executors=handles)
            stack.run_plan(Shape(tasks=10 * concurrency))
            yield stack


def reference_ends(shapes: list[Shape], *, concurrency: int) -> list[float]:
    """Run plans one after the other without any database; return when each attempt ended, in seconds."""
    nowhere = DatabaseUrls(admin="", owner="", service="", api="", direct="")
    tasks = sum(shape.tasks for shape in shapes)
    with tempfile.TemporaryDirectory() as folder:
        config = make_config(Path(folder), nowhere, concurrency=concurrency)
        with (
            executors(ReferenceExecutor, config),
            actor(ReferenceScheduler, SCHEDULER, config, shapes) as scheduler,
        ):
            wait_for(lambda: len(ray.get(scheduler.ends.remote())) == tasks, every_s=1.0)
            return list(ray.get(scheduler.ends.remote()))


@contextlib.contextmanager
def executors(kind: type, config: ActorConfig, *more: object) -> Iterator[list[Handle]]:
    """Five executors, and the pools that hold them."""
    pool, agent_type = config.settings.pools.default, Shape(tasks=0).agent_type
    names = [executor_name(agent_type, str(n)) for n in range(EXECUTORS)]
    node = node_id()
    with actor(Node, node_name(node), config, node):
        handles = [make(kind, executor(name, pool), config, name, agent_type, *more) for name in names]
        ray.get([handle.ready.remote() for handle in handles])
        infos = [ExecutorInfo(executor=name, agent_type=agent_type, slots=pool.slots) for name in names]
        present = list(zip(infos, handles, strict=True))
        with actor(FixedPools, POOLS, present):
            yield handles
        for handle in handles:
            ray.kill(handle)


@contextlib.contextmanager
def actor(kind: type, name: str, *arguments: object) -> Iterator[Handle]:
    """An actor with the options of a singleton."""
    handle = make(kind, singleton(name), *arguments)
    try:
        yield handle
    finally:
        ray.kill(handle)
        wait_for(lambda: name not in ray.util.list_named_actors())


def wait_for(condition: Callable[[], bool], *, every_s: float = POLL_S) -> None:
    """Look until the condition holds. Raises TimeoutError after ten minutes."""
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until_s:
            raise TimeoutError("what was measured did not end within 10 minutes")
        time.sleep(every_s)


def make_config(folder: Path, urls: DatabaseUrls, *, concurrency: int) -> ActorConfig:
    """Return what actors are made with, for so many sessions at once."""
    for name in ("records", "workspaces"):
        (folder / name).mkdir()
    return ActorConfig(
        settings=_settings(folder, concurrency),
        service_url=urls.service,
        direct_url=urls.direct,
        api_url=urls.api,
        cluster_id="measured",
        records=folder / "records",
        workspaces=folder / "workspaces",
        keys=FieldKeys([new_key()]),
    )


def _settings(home: Path, concurrency: int) -> Settings:
    given = {
        "limits": {"sessions_max": concurrency, "agent_default_max": concurrency},
        "pools": {"default": {"slots": -(-concurrency // EXECUTORS)}},
        "logging": {"level": "warning"},
    }
    return load_settings(home, given)
