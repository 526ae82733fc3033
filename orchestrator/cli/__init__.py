"""The command line `orchestrator`, alias `tm`.

It starts nothing heavy: it reads plans, speaks HTTP to a running stack, or holds a Host as a child and
talks to it over pipes. Everything but typer is imported when a command needs it, so that help is instant.
"""

from orchestrator.cli.program import main

__all__ = ["main"]
