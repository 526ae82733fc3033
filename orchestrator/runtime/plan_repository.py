"""Which repository a plan is worked on in, as its head and the request say."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.errors import PlanError
from orchestrator.plan.model import Plan
from orchestrator.ports import Repository
from orchestrator.views import SubmitRequest

#: `scheme://` of what git fetches from, or `host:path` of ssh.
_URL = re.compile(r"(?:https?|ssh|git|file)://\S+|[\w.-]+(?:@[\w.-]+)?:(?!/)\S*")
_WITH_PASSWORD = re.compile(r"\w+://[^/@]*:[^/@]*@")

#: What the name of a branch may not hold, git-check-ref-format(1).
_NO_BRANCH = re.compile(r"^[-/.]|[\s~^:?*\[\\\x00-\x1f]|\.\.|//|@\{|[/.]$|\.lock$")


def repository_of(plan: Plan, request: SubmitRequest) -> Repository | None:
    """Return the repository in whose clones a plan is worked on; None if it names none.

    Raises:
        PlanError: it cannot be one, or the plan names a workdir too.
    """
    written = request.repository or _word(plan, "repository")
    fields = {name: _lines(plan, name) for name in ("include", "setup")}
    branch = request.branch or _word(plan, "branch")
    if not written:
        if alone := next((name for name, value in {**fields, "branch": branch}.items() if value), ""):
            raise PlanError(
                f"The plan says `{alone}:`, but names no repository.",
                remedy="Add `repository:` to its head, or hand it in with --repository.",
            )
        return None
    if request.workdir or (_word(plan, "workdir") and not request.repository):
        raise PlanError(
            "The plan has a workdir and a repository; its tasks can work in one of them only.",
            remedy="Leave one of them out.",
        )
    url = _url(written, request)
    if fields["include"] and not url.startswith("/"):
        raise PlanError(
            f"`include:` copies files of a folder, and {url} is none.",
            remedy="Make the files in `setup:` lines.",
        )
    if _NO_BRANCH.search(branch):
        raise PlanError(f"{branch!r} cannot be the name of a branch.", remedy="Name one that exists.")
    return Repository(url=url, branch=branch, **fields)


def _url(written: str, request: SubmitRequest) -> str:
    if _WITH_PASSWORD.match(written):
        raise PlanError(
            "The address of the repository holds a password, which everybody would see who sees the plan.",
            remedy="Leave it out, and let a credential helper of git or ssh know it.",
        )
    if _URL.fullmatch(written):
        return written
    path = Path(request.base_dir) / Path(written).expanduser()
    if not path.is_absolute():
        raise PlanError(
            f"The repository {written!r} of the plan is relative, and the request does not say to what.",
            remedy="Give an absolute path or a URL, or the `base_dir` that it is relative to.",
        )
    return str(path)


def _word(plan: Plan, name: str) -> str:
    return str(plan.meta.get(name) or "").strip()


def _lines(plan: Plan, name: str) -> tuple[str, ...]:
    """Return the lines that a head gives under a name, as a list or a text."""
    written = plan.meta.get(name) or ()
    lines = written.splitlines() if isinstance(written, str) else written
    if not isinstance(lines, list | tuple) or not all(isinstance(line, str) for line in lines):
        raise PlanError(
            f"`{name}:` in the head of the plan is no list of lines.", remedy="Write one line each."
        )
    return tuple(line.strip() for line in lines if line.strip())
