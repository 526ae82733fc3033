"""Class of work and field of work of a task, by the words it uses.

Rule: a data table of words with weights, nothing else. The first word of a title counts most ("Review the
tests" is a review); general verbs such as "add" count least ("Add a regression test" is a test).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_FIRST_WORD_BONUS = 2
_TITLE_FACTOR = 3
_BODY_CHARS_MAX = 600

#: (task type, weight, words)
TASK_TYPE_WORDS = (
    ("research", 3, "research investigate investigation explore spike survey evaluate"),
    ("research", 3, "analyse analyze analysis compare study"),
    ("design", 3, "design architecture adr diagram wireframe blueprint c4 mockup specify specification"),
    ("design", 2, "plan define model schema decide choose"),
    ("implement", 3, "implement implementation develop code"),
    ("implement", 1, "add create build write set setup configure integrate install enable generate wire"),
    ("implement", 1, "initialize make update extend support expose lay convert join give"),
    ("test", 3, "test tests testing e2e coverage benchmark pytest unittest vitest playwright qa fuzz smoke"),
    ("test", 2, "verify validate measure prove"),
    ("document", 3, "document documentation docs readme changelog guide tutorial runbook docstring"),
    ("document", 2, "reference docstrings adrs describe explain"),
    ("review", 3, "review audit inspect assess"),
    ("review", 2, "approve check"),
    ("deploy", 3, "deploy deployment release publish rollout ship provision launch"),
    ("deploy", 2, "promote migrate tag"),
    ("fix", 3, "fix bug bugfix repair hotfix resolve correct patch"),
    ("fix", 2, "debug broken"),
    ("refactor", 3, "refactor refactoring rename cleanup simplify deduplicate"),
    ("refactor", 2, "extract split remove delete move merge reorganise reorganize"),
)

#: (domain, weight, words)
DOMAIN_WORDS = (
    ("backend", 3, "backend api apis endpoint endpoints rest graphql django fastapi flask celery server"),
    ("backend", 2, "service services middleware queue worker webhook websocket"),
    ("frontend", 3, "frontend react ui css html tailwind vue svelte typescript jsx tsx accessibility"),
    ("frontend", 2, "component components page pages browser dashboard form responsive layout"),
    ("devops", 3, "devops docker dockerfile kubernetes k8s terraform opentofu helm ci cd pipeline gke gcp"),
    ("devops", 3, "aws gcloud prometheus grafana kustomize ansible makefile"),
    ("devops", 2, "deploy deployment monitoring infrastructure cluster container workflow workflows git"),
    ("devops", 2, "repository provision"),
    ("security", 3, "security auth authentication authorization oauth oauth2 jwt rbac encryption encrypt"),
    ("security", 3, "secrets vulnerability csrf mfa sso sbom trivy snyk tls"),
    ("security", 2, "secret permission permissions password token audit threat"),
    ("testing", 3, "test tests testing e2e coverage pytest unittest qa playwright"),
    ("testing", 2, "benchmark fuzz smoke"),
    ("documentation", 3, "documentation docs readme changelog document tutorial runbook"),
    ("documentation", 2, "guide adr docstring docstrings"),
    ("data", 3, "database postgres postgresql sql schema migration migrations etl embedding embeddings"),
    ("data", 3, "citus chromadb pgvector dataset"),
    ("data", 2, "data index indexes table tables query queries analytics redis"),
)


def _by_word(table: Iterable[tuple[str, int, str]]) -> Mapping[str, tuple[str, int]]:
    return {word: (label, weight) for label, weight, words in table for word in words.split()}


_TYPES = _by_word(TASK_TYPE_WORDS)
_DOMAINS = _by_word(DOMAIN_WORDS)
_WORD = re.compile(r"[a-z0-9]+")

Word = tuple[str, str]  #: where it stands, and the word


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """What a task is about, and why: where and by which words each of the two was found, `title: test`."""

    task_type: str
    domain: str
    type_evidence: tuple[str, ...]
    domain_evidence: tuple[str, ...]


def classify(title: str, *, body: str = "", agent: str = "", section: str = "") -> Classification:
    """Classify a task by its words; `other` where none of the tables' words occurs.

    Args:
        title: counts three times as much as the body.
        body: its first 600 characters are read.
        agent: the agent type that the author named; its words count for the domain.
        section: title of what contains the task; it says the domain where nothing else does.
    """
    words = [("title", word) for word in _WORD.findall(title.lower())]
    below = [("body", word) for word in dict.fromkeys(_WORD.findall(body[:_BODY_CHARS_MAX].lower()))]
    agents = [("agent", word) for word in _WORD.findall(agent.lower())]
    task_type, type_evidence = _best(_TYPES, words, below)
    if words[:1] == [("title", "milestone")]:
        task_type, type_evidence = "milestone", ("title: milestone",)
    domain, domain_evidence = _best(_DOMAINS, words + agents, below)
    if domain == "other":
        around = [("section", word) for word in _WORD.findall(section.lower())]
        domain, domain_evidence = _best(_DOMAINS, around, [])
    return Classification(
        task_type=task_type, domain=domain, type_evidence=type_evidence, domain_evidence=domain_evidence
    )


def _best(
    table: Mapping[str, tuple[str, int]], title: Sequence[Word], body: Sequence[Word]
) -> tuple[str, tuple[str, ...]]:
    """The label with the highest score, of equals the one named first; and its words."""
    scores: dict[str, int] = {}
    evidence: dict[str, dict[str, None]] = {}
    for (place, word), label, weight in _matches(table, title, body):
        scores[label] = scores.get(label, 0) + weight
        evidence.setdefault(label, {})[f"{place}: {word}"] = None
    best = max(scores, key=lambda label: scores[label], default="other")
    return best, tuple(evidence.get(best, ()))


def _matches(
    table: Mapping[str, tuple[str, int]], title: Sequence[Word], body: Sequence[Word]
) -> Iterator[tuple[Word, str, int]]:
    for position, word in enumerate(title):
        if found := table.get(word[1]):
            label, weight = found
            bonus = _FIRST_WORD_BONUS if position == 0 and weight > 1 else 0
            yield word, label, (weight + bonus) * _TITLE_FACTOR
    for word in body:
        if found := table.get(word[1]):
            yield word, *found
