"""One stack for every acceptance test that only needs one to be up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.command_line import CommandLine, own_command_line, running_stack


@pytest.fixture
def cli() -> Iterator[CommandLine]:
    """A command line with an empty home of its own."""
    with own_command_line() as found:
        yield found


@pytest.fixture(scope="session")
def stack() -> Iterator[CommandLine]:
    """The command line of a stack that is up."""
    with running_stack() as found:
        yield found
