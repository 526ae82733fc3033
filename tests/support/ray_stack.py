"""A whole stack in a process of its own: PostgreSQL, Ray with the actors, Serve. Ends with its stdin.

    python -m tests.support.ray_stack HOME

It prints one line of JSON, `{"url": …}`, once HTTP answers.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator import __version__
from orchestrator.settings import load_settings
from orchestrator.stack import Stack, process_start_time, remove_stack, write_stack
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.store.migrate import prepare
from orchestrator.store.urls import DatabaseUrls
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
TOKEN = "token-of-the-stack"
RAY_TOKEN = "5" * 64


@contextmanager
def ray_stack(home: Path) -> Iterator[str]:
    """Run a stack for `home`; yields the URL of its HTTP front end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.ray_stack", str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=foreign_environment(),
        cwd=ROOT,
    )
    try:
        first = next(line for line in process.stdout if line.startswith(b"{"))
        yield json.loads(first)["url"]
    finally:
        process.stdin.close()
        process.wait(120)
        process.stdout.close()


def foreign_environment() -> dict[str, str]:
    """The environment of a program that knows nothing of our Ray."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "ORCHESTRATOR_"))
    }
    return kept | {"PYTHONPATH": str(ROOT)}


def _main(home: Path) -> None:
    token_file = home / "ray-token"
    token_file.write_text(RAY_TOKEN)
    token_file.chmod(0o600)
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file)
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with contextlib.ExitStack() as stack:
        postgres = EmbeddedPostgres(home=home)
        stack.callback(postgres.stop)
        urls = postgres.start().urls()
        prepare(urls)
        url = _start_ray(home, urls, stack)
        print(json.dumps({"url": url}), flush=True)
        sys.stdin.read()


def _start_ray(home: Path, urls: DatabaseUrls, stack: contextlib.ExitStack) -> str:
    import ray

    from actors.options import NAMESPACE, ActorConfig
    from actors.singletons import ensure_node, ensure_pools, ensure_scheduler
    from serve_app import deployment

    port = free_port()
    stack.callback(ray.shutdown)
    ray.init(
        num_cpus=2,
        _node_ip_address="127.0.0.1",
        namespace=NAMESPACE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        resources={"executor": 16},
        object_store_memory=100 * 2**20,
    )
    config = ActorConfig(
        settings=load_settings(home, {"http": {"port": port}}),
        service_url=urls.service,
        direct_url=urls.direct,
        api_url=urls.api,
        cluster_id="test",
        records=home / "records",
        workspaces=home / "workspaces",
    )
    for folder in (config.records, config.workspaces):
        folder.mkdir()
    context = ray.get_runtime_context()
    made = [ensure_node(config, context.get_node_id()), ensure_scheduler(config), ensure_pools(config)]
    ray.get([actor.ping.remote() for actor in made], timeout=240)
    deployment.start(config, token=TOKEN)
    stack.callback(deployment.stop)
    url = f"http://127.0.0.1:{port}"
    start_time = process_start_time(os.getpid())
    address = context.gcs_address
    write_stack(
        home,
        Stack(
            pid=os.getpid(),
            start_time=start_time,
            version=__version__,
            mode="up",
            url=url,
            ray_address=address,
        ),
    )
    stack.callback(remove_stack, home)
    return url


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
