"""What every fault test stands on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.own_home import own_home


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of the test's own, that no process outlives."""
    with own_home() as folder:
        yield folder
