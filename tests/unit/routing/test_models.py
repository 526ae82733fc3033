"""Models of agent types that go to a provider which does not have them, where that can be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from orchestrator.errors import Finding
from orchestrator.plan.read import read_plan
from orchestrator.routing import Routing, checked_plan
from orchestrator.routing.agent_catalogue import read_texts
from orchestrator.routing.models import wrong_models_of
from orchestrator.routing.tables import load_tables
from orchestrator.settings import Anthropic, OpenAI, Sessions, Settings

KEY = SecretStr("k")
CLAUDE = {"anthropic": Anthropic(api_key=KEY)}
CHAT = {"openai": OpenAI(api_key=KEY)}

PLAN = """\
- [ ] A.1 Rhyme
  - agent: poet
- [ ] A.2 Rhyme again
  - agent: poet
"""


def poet(*fields: str) -> dict[str, str]:
    return {"agents/poet.md": "\n".join(("---", "name: poet", *fields, "---", "Rhyme."))}


def in_plan(home: Path, *fields: str, plan: str = PLAN, asked: str = "auto", **given: Any) -> list[Finding]:
    settings = Settings(home=home, **given)
    routing = Routing.from_settings(settings).with_own(poet(*fields))
    return list(checked_plan(read_plan(plan), routing=routing, settings=settings, asked=asked).findings)


def in_file(home: Path, *fields: str, **given: Any) -> list[Finding]:
    settings = Settings(home=home, **given)
    files = read_texts(poet(*fields), models=load_tables(settings.routing).models)
    return list(wrong_models_of((file.agent_type for file in files), settings=settings))


def test_a_model_of_another_provider_is_refused_once_with_the_remedy(tmp_path: Path) -> None:
    (found,) = in_plan(tmp_path, "model: opus", **CHAT)
    assert (found.code, found.severity, found.line) == ("foreign-model", "error", 1)
    assert found.message == (
        "A.1: The agent type `poet` names the model `claude-opus-5-5`, which is a model of anthropic; "
        "its sessions ask openai."
    )
    assert found.remedy == (
        "Name one of openai's in agents/poet.md, line 3, or choose the backend `anthropic`."
    )
    (found,) = in_file(tmp_path, "model: opus", **CHAT)
    assert (found.code, found.source, found.line) == ("foreign-model", "agents/poet.md", 3)


@pytest.mark.parametrize(
    ("fields", "given"),
    [
        (("model: gpt-5.4",), CLAUDE),
        (("model: gpt-5.4",), CLAUDE | CHAT),
        (("model: gpt-5.4", "backend: claude-code"), {}),
        (("model: claude-haiku-4-5-20251001", "backend: openai"), {}),
        (("model: gpt-5.4",), CHAT | {"sessions": Sessions(backend="anthropic")}),
    ],
)
def test_it_does_not_matter_what_chose_the_provider(
    tmp_path: Path, fields: tuple[str, ...], given: dict[str, Any]
) -> None:
    assert [found.code for found in in_plan(tmp_path, *fields, **given)] == ["foreign-model"]
    assert [found.code for found in in_file(tmp_path, *fields, **given)] == ["foreign-model"]


@pytest.mark.parametrize(
    ("fields", "given"),
    [
        (("model: opus",), CLAUDE),
        (("model: opus",), {}),
        (("model: gpt-5.4",), {}),
        (("model: gpt-5.4", "backend: openai"), CLAUDE),
        (("model: gpt-5.4", "backend: simulated"), CLAUDE),
        (("model: inherit",), CHAT),
        (("model: opus",), {"openai": OpenAI(api_key=KEY, base_url="http://127.0.0.1:1/v1")}),
        (("model: any-7b",), {"openai": OpenAI(api_key=KEY, base_url="http://127.0.0.1:1/v1")}),
        (
            ("model: any-7b",),
            {"openai": {"api_key": "k", "prices": {"any-7b": dict.fromkeys(
                ("input", "output", "cache_read", "cache_write"), 1.0)}}},
        ),
    ],
)  # fmt: skip
def test_what_fits_or_cannot_be_known_is_left_alone(
    tmp_path: Path, fields: tuple[str, ...], given: dict[str, Any]
) -> None:
    assert in_plan(tmp_path, *fields, **given) == []
    assert in_file(tmp_path, *fields, **given) == []


def test_what_no_list_has_is_a_warning_with_the_name_that_looks_like_it(tmp_path: Path) -> None:
    (found,) = in_plan(tmp_path, "model: claude-sonet-5-5", **CLAUDE)
    assert (found.code, found.severity) == ("unlisted-model", "warning")
    assert found.remedy.startswith("Write `claude-sonnet-5-5` if that is meant; else add it to `anthropic.pr")


@pytest.mark.parametrize(
    ("plan", "line"),
    [
        ("- [ ] A.1 a\n  - agent: poet\n  - run: make\n", None),
        ("- [x] A.1 a\n  - agent: poet\n", None),
        ("- [ ] A.1 a\n  - agent: poet\n  - manual: yes\n", None),
        ("- [ ] A.1 a\n  - run: make\n- [ ] A.2 a\n  - run: make\n  - review: poet\n", 3),
        ("- [ ] A.1 a\n  - agent: code-reviewer\n- [ ] A.2 a\n  - agent: poet\n", 3),
    ],
)
def test_only_tasks_that_would_ask_it_are_refused(tmp_path: Path, plan: str, line: int | None) -> None:
    found = in_plan(tmp_path, "model: gpt-5.4", plan=plan, **CLAUDE)
    assert [finding.line for finding in found] == ([] if line is None else [line])


def test_the_backend_of_the_request_decides(tmp_path: Path) -> None:
    assert in_plan(tmp_path, "model: gpt-5.4", asked="openai", **CLAUDE) == []
    assert [found.line for found in in_plan(tmp_path, "model: opus", asked="openai")] == [1]


def test_a_name_without_a_file_asks_the_model_of_the_general_one(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    general = "---\nname: general-purpose\nmodel: gpt-5.4\n---\nWork."
    (tmp_path / "agents" / "general.md").write_text(general, encoding="utf-8")
    plan = "- [ ] A.1 a\n  - agent: stern-painter\n"
    codes = {found.code for found in in_plan(tmp_path, plan=plan, **CLAUDE)}
    assert codes == {"unknown-agent", "foreign-model"}
