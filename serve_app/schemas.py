"""Shapes that only HTTP has; everything else is in orchestrator/views.py."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.backends import PROVIDERS
from orchestrator.money import BUDGET_MICROS_MAX
from orchestrator.views import FindingView, SubmitRequest, View


class Problem(View):
    """Why a request was refused (RFC 9457), with what can be done about it."""

    type: str = Field(description="`urn:orchestrator:error:` and the class of the error.")
    title: str
    status: int
    detail: str = Field(description="The thing and the reason.")
    remedy: str = Field(description="What the reader can do about it; empty if nothing.")
    findings: tuple[FindingView, ...] | None = Field(
        default=None, description="What is wrong with a refused plan, by line."
    )


class SubmitOptions(BaseModel):
    """How to take a plan whose text is the whole body."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(description="Identity of the plan; by default its front matter or title.")] = (
        ""
    )
    workdir: Annotated[str, Field(description="Absolute folder of the work.")] = ""
    repository: Annotated[
        str, Field(description="Absolute folder or URL of the repository in whose clones the work is done.")
    ] = ""
    branch: Annotated[str, Field(description="What the work begins with; by default the HEAD.")] = ""
    backend: Annotated[
        str, Field(description=f"`auto`, or one of {', '.join(f'`{name}`' for name in PROVIDERS)}.")
    ] = "auto"
    until: Annotated[str, Field(description="Work only on the task of this key and what it needs.")] = ""
    take: Annotated[bool, Field(description="Also work on tasks marked in progress.")] = False
    retry: Annotated[bool, Field(description="Try again what failed, if the plan stalled.")] = False
    fresh: Annotated[bool, Field(description="Set a known plan of the name aside and start over.")] = False
    source: Annotated[str, Field(description="Path or name that findings mention.")] = ""

    def request(self, text: str) -> SubmitRequest:
        """Return the request that hands in `text`."""
        return SubmitRequest(
            text=text,
            source=self.source,
            name=self.name,
            workdir=self.workdir,
            repository=self.repository,
            branch=self.branch,
            backend=self.backend,
            until_key=self.until,
            take=self.take,
            retry=self.retry,
            is_fresh=self.fresh,
        )


class Change(BaseModel):
    """Why a plan or task is to change; `until_key` is for resuming a plan up to one task."""

    model_config = ConfigDict(extra="forbid")

    reason: str = ""
    until_key: str = ""


class NewDependency(BaseModel):
    """What a task is to wait for, or not to wait for any more."""

    model_config = ConfigDict(extra="forbid")

    on_key: str = Field(min_length=1, description="Key or id of the other task, in the same plan.")
    reason: str = ""


class NewBudget(BaseModel):
    """Most that a plan or a task may spend, what it has spent included; 0 = no limit of its own."""

    model_config = ConfigDict(extra="forbid")

    budget_micros: int = Field(ge=0, le=BUDGET_MICROS_MAX, description="Millionths of a US dollar.")


class Health(View):
    """Whether the front end, or all that it needs, is up."""

    status: str
