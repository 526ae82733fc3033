"""Runs as a process of its own: owns or shares the server of a home until its stdin ends.

Arguments: home, version, uid to become (0: stay). Prints one JSON line, the address or the error.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from orchestrator.errors import OrchestratorError
from orchestrator.store.embedded import EmbeddedPostgres


def main() -> None:
    home, version, uid = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if uid:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    server = EmbeddedPostgres(home=home, version=version)
    try:
        address = server.start()
    except OrchestratorError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
        return
    print(json.dumps(asdict(address)), flush=True)
    sys.stdin.read()
    server.stop()


main()
