"""The stack of `tests.support.actor_stack` with the HTTP front end on Serve, known by its stack file.

python -m tests.support.ray_stack HOME SETTINGS
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.stack import remove_stack, write_stack
from tests.support.actor_stack import Operations, actor_stack, main
from tests.support.own_stack import own_stack
from tests.support.ports import free_port

TOKEN = "token-of-the-stack"


@contextmanager
def ray_stack(home: Path) -> Iterator[str]:
    """Run a stack for `home`; yields the URL of its HTTP front end."""
    port = free_port()
    with actor_stack(home, program="tests.support.ray_stack", settings={"http": {"port": port}}):
        yield f"http://127.0.0.1:{port}"


class _ServedOperations(Operations):
    def start_actors(self) -> None:
        """Have the front end answer too."""
        import ray

        from serve_app import deployment

        super().start_actors()
        deployment.start(self.config, token=TOKEN)
        url = f"http://127.0.0.1:{self.config.settings.http.port}"
        stack = own_stack(url=url, ray_address=ray.get_runtime_context().gcs_address)
        write_stack(self.config.settings.home, stack)

    async def close(self) -> None:
        """End the front end first."""
        from serve_app import deployment

        remove_stack(self.config.settings.home)
        await asyncio.to_thread(deployment.stop)
        await super().close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), _ServedOperations)
