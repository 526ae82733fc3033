"""Stops our own Ray while its dashboard starts, in a process of its own: prints how long the start went on.

    python -m tests.support.dashboard_starts FOLDER DELAY_S...

One line for each delay: the seconds from the end of the stop to the end of the dashboard's start.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from cluster.ray_environment import apply_ray_environment
from orchestrator.errors import EnvironmentFault
from tests.support.processes import ray_token_file

_MEBIBYTE = 2**20


def main(folder: Path, delays_s: list[float]) -> None:
    """Start and stop once for each delay."""
    apply_ray_environment(token_file=ray_token_file(folder))
    for number, delay_s in enumerate(delays_s):
        print(f"{_goes_on_s(folder, number, delay_s):.1f}", flush=True)


def _goes_on_s(folder: Path, number: int, delay_s: float) -> float:
    from cluster.ray_head import HeadOptions, RayHead

    tables = folder / f"gcs-{number}"
    tables.mkdir()
    head = RayHead(
        HeadOptions(
            folder=folder, gcs_folder=tables, object_store_bytes=100 * _MEBIBYTE, num_cpus=1, resources={}
        )
    )
    head.start()

    def start_dashboard() -> None:
        with suppress(EnvironmentFault):
            head.start_dashboard(port=0)

    dashboard = threading.Thread(target=start_dashboard)
    dashboard.start()
    time.sleep(delay_s)  # the moment is the point
    head.stop()
    stopped_s = time.monotonic()
    dashboard.join()
    return time.monotonic() - stopped_s


if __name__ == "__main__":
    main(Path(sys.argv[1]), [float(argument) for argument in sys.argv[2:]])
