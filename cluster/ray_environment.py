"""How every process of our own Ray is configured: one table of environment variables.

Ray reads them when it is imported or when its processes start, so they are set before either. This module
imports no Ray.
"""

from __future__ import annotations

import os
from pathlib import Path

from actors.joining import access_environment

GCS_FOLDER = "RAY_gcs_storage_path"

_OURS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Tables on disk: a killed GCS comes back with every actor alive.
    "RAY_gcs_storage": "rocksdb",
    # Actors are what this machine is for; by default Ray gives them the lowest priority but four.
    "RAY_worker_niceness": "0",
    # Without it a call of Serve to a GCS that has died hangs for ever.
    "RAY_SERVE_KV_TIMEOUT_S": "10",
    # A proxy that is not ready after 5 s would be killed, and the start of Serve with it. Its imports alone
    # may take longer on a machine with other work, or the first time.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # Under `uv run` Ray would build the environment anew for every worker.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


def apply_ray_environment(*, token_file: Path) -> None:
    """Configure this process, and by inheritance every process of Ray, for a Ray of our own.

    Args:
        token_file: readable by its owner only; whoever has its content may do everything in this Ray.
    """
    os.environ.update(_OURS | access_environment(token_file))
    os.environ.pop("RAY_ADDRESS", None)  # of another cluster; children would join it
