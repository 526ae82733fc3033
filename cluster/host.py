"""The Host: parent of the embedded PostgreSQL, of our own Ray and of the singleton actors.

    python -m cluster.host --daemon     serves HTTP until SIGTERM (`orchestrator up`)
    python -m cluster.host --stdio      works on one plan for the process at its stdin (`orchestrator run`)

Here is the process: its arguments, its guard, its streams, its exit code. What it does is in
`cluster.lifecycle`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any, NoReturn, TextIO, cast

from actors.lossy import Lossy
from cluster.guard import become_guarded

_GUARDED = "--guarded"
_FAILED = 1


def main() -> int:
    """Become the guard of a Host, or, guarded, be the Host; return its exit code."""
    options = _parse(sys.argv[1:])
    if not options.guarded:
        become_guarded([sys.executable, "-P", "-m", "cluster.host", *sys.argv[1:], _GUARDED])
    return _run(options)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cluster.host", description="Run the orchestrator.")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--daemon", action="store_true", help="serve HTTP until SIGTERM")
    mode.add_argument("--stdio", action="store_true", help="work on the plan that stdin hands in")
    parser.add_argument("--serve", action="store_true", help="with --stdio: serve HTTP as well")
    parser.add_argument("--address", default="", metavar="HOST:PORT", help="join this Ray cluster")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of the HTTP API")
    parser.add_argument(_GUARDED, action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> int:
    from cluster.home import HostHome
    from cluster.lifecycle import Host
    from cluster.progress import Progress
    from orchestrator.errors import OrchestratorError
    from orchestrator.settings import load_settings

    progress = Progress(_claim_stdout() if options.stdio else None)
    try:
        settings = load_settings(overrides=_overrides(options))
        _configure_log(settings.logging.level)
        home = HostHome(settings.home)
        with home.held():
            progress.open(settings.home)
            is_served = options.daemon or options.serve
            host = Host(settings, home=home, progress=progress, is_run=options.stdio, is_served=is_served)
            asyncio.new_event_loop().run_until_complete(host.run())
    except OrchestratorError as error:
        progress.error(error)
        return error.exit_code
    except Exception as error:
        logging.getLogger(__name__).exception("the Host failed")
        progress.error(OrchestratorError(f"The Host failed: {type(error).__name__}: {error}."))
        return _FAILED
    return 0


def _overrides(options: argparse.Namespace) -> Mapping[str, Any]:
    ray = {"address": options.address} if options.address else {}
    http = {"port": options.port} if options.port else {}
    return {name: section for name, section in (("ray", ray), ("http", http)) if section}


def _claim_stdout() -> IO[str]:
    """Return stdout for our lines alone; whatever else is printed goes to stderr, which is the log."""
    ours = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return ours


def _leave(code: int) -> NoReturn:
    """End now. Python would first wait for its threads, in which Ray may wait for what has ended already."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more, or the disk is full
            stream.flush()
    os._exit(code)


def _configure_log(level: str) -> None:
    """Write the log for people to stderr; the command line leads it to logs/host.log."""
    import structlog

    number = logging.getLevelNamesMapping()[level.upper()]
    sys.stderr = cast(TextIO, Lossy(sys.stderr))
    logging.basicConfig(stream=sys.stderr, level=max(number, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    _leave(main())
