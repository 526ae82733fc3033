"""The stack of `tests.support.actor_stack`, where calls between actors fail by Ray's own fault injection.

    python -m tests.support.faulty_stack HOME SETTINGS

Nobody is asked whether the actors are there, for that call may fail as well.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.actor_stack import ActorStack, Operations, actor_stack, main

#: Percent of the pushes of calls to actors, by whichever process: a share is not sent at all, a share is
#: carried out and answered by an error, and a share is answered by an error while it is carried out.
_PUSHES = {
    "num_failures": -1,
    "req_failure_prob": 15,
    "resp_failure_prob": 10,
    "in_flight_failure_prob": 10,
}
_FAULTS = {
    "RAY_testing_rpc_failure": json.dumps({"CoreWorkerService.grpc_client.PushTask": _PUSHES}),
    "RAY_testing_asio_delay_us": "CoreWorkerService.grpc_server.PushTask=0:200000",
}


@contextmanager
def faulty_stack(home: Path, settings: Mapping[str, object]) -> Iterator[ActorStack]:
    """Run a stack for `home`; afterwards nothing of it is left."""
    program = "tests.support.faulty_stack"
    with actor_stack(home, program=program, settings=settings, environment=_FAULTS) as stack:
        yield stack


class _FaultyOperations(Operations):
    def start_actors(self) -> None:
        """Make the singletons, and believe that they will answer some day."""
        import ray

        from actors.singletons import ensure_node, ensure_pools, ensure_scheduler

        ensure_scheduler(self.config)
        ensure_pools(self.config)
        ensure_node(self.config, ray.get_runtime_context().get_node_id())


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), _FaultyOperations)
