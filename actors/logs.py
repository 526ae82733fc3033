"""What our actors log: one JSON object a line on stdout, where Ray keeps it in the file of the worker."""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

import structlog

from actors.lossy import Lossy
from orchestrator.settings import Settings


def log_json(settings: Settings) -> None:
    """Have this process log as the settings say; the first thing that an actor does."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.logging.level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, Lossy(sys.stdout))),
    )
