"""What a model session is told first."""

from __future__ import annotations

from orchestrator.core.words import AttemptKind
from orchestrator.sessions.prompt import role_prompt, task_prompt
from orchestrator.sessions.tokens import estimate_tokens
from orchestrator.surroundings import FailedAttempt, Surroundings
from tests.support.sessions import Recorder, assignment

FAILED = FailedAttempt(number=1, kind="gate", failure_class="gate", summary="exit code 1", detail="No.")


def test_the_role_is_our_rules_and_then_what_the_file_of_the_agent_type_says() -> None:
    plain = role_prompt(assignment(agent_type="poet"))
    assert "type poet" in plain
    assert role_prompt(assignment(agent_type="poet", prompt="You rhyme.")) == f"{plain}\nYou rhyme.\n"


def test_the_role_is_the_same_for_every_task_of_an_agent_type() -> None:
    one, other = assignment(key="A.1", prompt="p"), assignment(key="A.2", title="Other", number=3, prompt="p")
    assert role_prompt(one) == role_prompt(other)


def test_the_task_is_told_with_its_criteria_its_checks_and_what_went_wrong_before() -> None:
    transcript = Recorder()
    told = task_prompt(
        assignment(
            body="Nicely.",
            acceptance=("It is short",),
            verify=("test -s a",),
            number=2,
            surroundings=Surroundings(failed=(FAILED,)),
        ),
        transcript,
    )
    parts = ["Task A.1: Greet", "Nicely.", "- It is short", "    test -s a", "gate 1 failed", "No."]
    assert [told.index(part) for part in parts] == sorted(told.index(part) for part in parts)
    assert transcript.text("note") == f"Context pack of about {estimate_tokens(told)} tokens.\n"


def test_a_reviewer_is_told_to_judge_and_what_the_agent_reported() -> None:
    review = assignment(
        kind=AttemptKind.REVIEW,
        acceptance=("It is short",),
        verify=("test -s a",),
        number=2,
        feedback="I wrote a.",
        surroundings=Surroundings(failed=(FAILED,)),
    )
    assert "Change nothing" in role_prompt(review)
    assert "Change nothing" not in role_prompt(assignment())
    told = task_prompt(review, Recorder())
    parts = [
        "Task A.1: Greet",
        "- It is short",
        "Checks that passed",
        "    test -s a",
        "reported",
        "I wrote a.",
    ]
    assert [told.index(part) for part in parts] == sorted(told.index(part) for part in parts)
    assert "Earlier attempts" not in told
