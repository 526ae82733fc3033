"""Which repository a plan is worked on in, by its head and by the request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import PlanError
from orchestrator.ports import Repository
from orchestrator.routing import Routing
from orchestrator.runtime.submission import read_submission
from orchestrator.settings import Settings
from orchestrator.views import SubmitRequest


def _repository(home: Path, head: str, **changes: Any) -> Repository | None:
    settings = Settings(home=home)
    text = f"---\nname: p\n{head}---\n# P\n\n- [ ] **A.1** Do it\n"
    request = SubmitRequest(**{"text": text, "base_dir": "/srv/plans", **changes})
    return read_submission(request, routing=Routing.from_settings(settings), settings=settings).repository


def test_a_plan_that_names_none_has_none(tmp_path: Path) -> None:
    assert _repository(tmp_path, "") is None


def test_the_head_names_it_and_what_its_clones_need(tmp_path: Path) -> None:
    head = "repository: ../code\nbranch: main\ninclude: [.env, '*.key']\nsetup:\n- make deps\n- make seed\n"
    assert _repository(tmp_path, head) == Repository(
        url="/srv/plans/../code",
        branch="main",
        include=(".env", "*.key"),
        setup=("make deps", "make seed"),
    )
    assert _repository(tmp_path, "repository: /code\nsetup: make\n") == Repository(
        url="/code", setup=("make",)
    )


@pytest.mark.parametrize(
    "url",
    ["https://example.org/code.git", "git@example.org:team/code", "ssh://example.org/x", "file:///srv/x"],
)
def test_an_address_stays_as_it_is_written(tmp_path: Path, url: str) -> None:
    assert _repository(tmp_path, "", repository=url, branch="next") == Repository(url=url, branch="next")


def test_the_request_wins_over_the_head(tmp_path: Path) -> None:
    head = "repository: /old\nbranch: main\n"
    found = _repository(tmp_path, head, repository="/new", branch="next")
    assert found == Repository(url="/new", branch="next")
    assert _repository(tmp_path, "workdir: work\n", repository="/new") == Repository(url="/new")


@pytest.mark.parametrize(
    ("head", "changes", "message"),
    [
        ("branch: main\n", {}, "names no repository"),
        ("setup: make\n", {}, "names no repository"),
        ("repository: code\n", {"base_dir": ""}, "is relative"),
        ("repository: /code\nworkdir: work\n", {}, "a workdir and a repository"),
        ("repository: /code\n", {"workdir": "/work"}, "a workdir and a repository"),
        ("repository: https://me:secret@example.org/x\n", {}, "holds a password"),
        ("repository: https://example.org/x\ninclude: .env\n", {}, "copies files of a folder"),
        ("repository: /code\nbranch: --upload-pack=x\n", {}, "cannot be the name of a branch"),
        ("repository: /code\nsetup: {a: b}\n", {}, "no list of lines"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(
    tmp_path: Path, head: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        _repository(tmp_path, head, **changes)
    assert caught.value.remedy
