"""One stack for every integration test that only needs one to be up; each brings plans of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.command_line import CommandLine, running_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[CommandLine]:
    """The command line of a stack that is up."""
    with running_stack() as found:
        yield found
