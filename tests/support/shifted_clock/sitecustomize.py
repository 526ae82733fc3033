"""Imported by every Python process that finds this folder on its path: shifts the wall clock it shows.

The shift, in seconds, is read from the file WALL_CLOCK at every look, so the clock can jump at any time.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

_REAL = {name: getattr(time, name) for name in ("time", "time_ns", "clock_gettime", "clock_gettime_ns")}


def _shift_s() -> int:
    return int(Path(os.environ["WALL_CLOCK"]).read_text())


def _shifted(name: str, unit: int) -> Callable[[], float]:
    return lambda: _REAL[name]() + _shift_s() * unit


def _shifted_if_wall(name: str, unit: int) -> Callable[[int], float]:
    return lambda clock: _REAL[name](clock) + (_shift_s() * unit if clock == time.CLOCK_REALTIME else 0)


if "WALL_CLOCK" in os.environ:
    time.time = _shifted("time", 1)
    time.time_ns = _shifted("time_ns", 10**9)  # type: ignore[assignment]
    time.clock_gettime = _shifted_if_wall("clock_gettime", 1)
    time.clock_gettime_ns = _shifted_if_wall("clock_gettime_ns", 10**9)  # type: ignore[assignment]
