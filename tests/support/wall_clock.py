"""Wall clocks that jump: of chosen Python processes, while they run.

Shifted is what `time` shows; monotonic clocks are left alone, as a machine leaves them alone when its time is
set. `datetime.now` is banned from the product by the style check instead, because its type cannot be shifted.
Nor is anything below Python: a preloaded library would shift what is read, and not what the kernel waits by,
which no real jump does (and libfaketime 0.9.10 makes `time.sleep` fail).
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.processes import ROOT


class WallClock:
    """The wall clock of the processes that are started with `environment`.

    Args:
        file: where its shift is kept; the processes must be able to read it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.environment = {
            "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent / "shifted_clock"), str(ROOT))),
            "WALL_CLOCK": str(file),
        }
        self.shift(0)

    def shift(self, seconds: int) -> None:
        """Have it jump to so many seconds ahead of the machine's."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.chmod(0o644)
        new.replace(self._file)
