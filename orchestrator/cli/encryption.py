"""Command on the encryption: encryption rotate."""

from __future__ import annotations

import subprocess
import sys

import typer

from orchestrator.cli import options

encryption = typer.Typer(
    name="encryption",
    help="Look after the encryption of transcripts and journals.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@encryption.command()
def rotate(json: options.Json = False) -> None:
    """Encrypt every transcript and journal under a new key.

    While the stack is down. What was interrupted goes on when it is called again; the old key is forgotten
    once nothing needs it. Keys in the settings are yours: put a new one in front, and call this.

    Example: orchestrator encryption rotate
    """
    command = [sys.executable, "-P", "-m", "cluster.encryption", *(["--json"] if json else [])]
    raise typer.Exit(subprocess.run(command, check=False).returncode)
