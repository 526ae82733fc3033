"""A Ray cluster that somebody else runs: what the Host asks of it before it works there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine, own_command_line, read_until

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(600)]

PLAN = "# Alone\n\n- [ ] A.1 Say it\n  - run: `echo said`\n"


@pytest.fixture
def cli() -> Iterator[CommandLine]:
    with own_command_line() as found:
        yield found


@contextmanager
def two_nodes(token_file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a cluster of two nodes; yields its address and the variables that let a process join it."""
    token_file.write_text("0123456789abcdef" * 2)
    token_file.chmod(0o600)
    access = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    cluster = subprocess.Popen(
        [sys.executable, "-m", "tests.support.two_nodes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | access,
        text=True,
    )
    try:
        yield read_until(cluster, "address ").split()[1], access
    finally:
        cluster.communicate(timeout=120)


def test_the_embedded_database_is_refused_for_a_cluster_of_two_nodes(
    cli: CommandLine, tmp_path: Path
) -> None:
    with two_nodes(tmp_path / "token") as (address, access):
        joined = cli.with_environment(ORCHESTRATOR_RAY__ADDRESS=address, **access)
        error = joined.data("run", str(cli.plan(PLAN)), code=6)
    assert error["code"] == "EnvironmentFault"
    assert f"{address} has 2 nodes" in error["message"]
    assert "Set DATABASE_URL" in error["remedy"]
