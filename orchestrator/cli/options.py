"""Arguments and options that several commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.backends import BackendChoice

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout, and nothing else.")]

PlanFile = Annotated[
    str,
    typer.Argument(
        metavar="PLAN", help="Plan in Markdown or JSON: a file, a folder of plan files, or - for stdin."
    ),
]

PlanFormat = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORMAT", help="How it is written; auto finds out, and `import` says why."
    ),
]

PlanRef = Annotated[str, typer.Argument(metavar="PLAN", help="Name or id of the plan.")]
OfPlan = Annotated[
    str, typer.Option("--plan", metavar="PLAN", help="Name or id of the plan that the task's key is of.")
]
TaskRef = Annotated[str, typer.Argument(metavar="TASK", help="Key of the task, such as A.1.2, or its id.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the story of the task.")]

Name = Annotated[
    str, typer.Option("--name", metavar="NAME", help="Name of the plan; by default its own, else its title.")
]
Workdir = Annotated[
    Path | None,
    typer.Option("--workdir", metavar="DIR", help="Folder to work in; by default the one the plan names."),
]
Repository = Annotated[
    str,
    typer.Option(
        "--repository", metavar="PATH|URL", help="Give each attempt a clone of it, whatever the plan names."
    ),
]
Branch = Annotated[
    str, typer.Option("--branch", metavar="NAME", help="What clones begin with; by default the HEAD.")
]
Backend = Annotated[
    BackendChoice,
    typer.Option(
        "--backend", help="What runs the tasks. auto: `run:` lines by command, all else with a model."
    ),
]
Budget = Annotated[
    float,
    typer.Option("--budget", metavar="USD", min=0.0, help="Most that the plan may spend; 0 = no limit."),
]
Until = Annotated[
    str, typer.Option("--until", metavar="KEY", help="Work only on this task and what it needs.")
]
Take = Annotated[bool, typer.Option("--take", help="Also work on tasks that the plan marks in progress.")]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Start over: a known plan of this name is kept as NAME@N.")
]
Url = Annotated[
    str, typer.Option("--url", metavar="URL", help="Ask this server instead of the stack that runs here.")
]
Token = Annotated[
    typer.FileText | None,
    typer.Option("--token", metavar="FILE", help="File with the token of that server; - for stdin."),
]
