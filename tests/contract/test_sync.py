"""Plan files and a real service in step: HTTP, scheduler and sessions are the product's own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.client import Client
from orchestrator.client.transport import Endpoint
from orchestrator.errors import Conflict, PlanError
from orchestrator.sync.files import PlanFiles
from orchestrator.sync.keeper import Keeper, Round
from orchestrator.sync.watcher import Watcher
from orchestrator.views import SubmitRequest
from tests.support.own_server import own_server
from tests.support.service_process import TOKEN, service_process

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

FIELDS = "  - agent: backend-development\r\n  - run: `{}`\r\n"
PLAN = (
    "\ufeff# Sync\r\n\r\n"
    "- [ ] **A.1** Quick\t\r\n" + FIELDS.format("true") + "- [ ] **A.2** Long  \r\n"
    "  - agent: backend-development\r\n  - run: `sleep 600`\r\n"
    "- [ ] **A.3** After\r\n  - depends: A.2\r\n"
    + FIELDS.format("true")
    + "* [x] Known before\r\n"
    + FIELDS.format("true")
)


@pytest.fixture(scope="module")
def connect() -> Iterator[Callable[[], Client]]:
    with own_server() as server, service_process(server) as service:
        yield lambda: Client(Endpoint(url=service.url, token=TOKEN, patience_s=60.0))


@pytest.fixture
def client(connect: Callable[[], Client]) -> Iterator[Client]:
    with connect() as client:
        yield client


@pytest.fixture
def path(tmp_path: Path, client: Client, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A plan file whose plan is known by the name of the test, and cancelled at its end."""
    path = tmp_path / "plan.md"
    path.write_bytes(PLAN.encode())
    stored = client.submit(SubmitRequest(text=PLAN, name=request.node.name, workdir=str(tmp_path)))
    yield path
    with contextlib.suppress(Conflict):  # it is over
        client.request("cancel_plan", plan_id=stored.plan_id, reason="the test is over")


@pytest.fixture
def keeper(client: Client, path: Path, request: pytest.FixtureRequest) -> Keeper:
    return Keeper(client, PlanFiles(path), request.node.name)


def edit(path: Path, old: str, new: str) -> None:
    """Edit the file by hand."""
    text = path.read_bytes().decode()
    assert text.count(old) == 1
    path.write_bytes(text.replace(old, new).encode())


def rounds(keeper: Keeper, path: Path, *, until: str) -> list[Round]:
    """Do rounds until the file holds a text and is in step."""
    done, deadline_s = [], time.monotonic() + 120
    while True:
        done.append(keeper.keep())
        is_quiet = not (done[-1].written or done[-1].sent or done[-1].revised)
        if is_quiet and until in path.read_bytes().decode():
            return done
        assert time.monotonic() < deadline_s, f"{done[-1]}\n{path.read_bytes().decode()}"
        time.sleep(0.1)


def states(keeper: Keeper) -> dict[str, tuple[str, str]]:
    return {task.key: (task.state, task.reason) for task in keeper.client.source(keeper.ref).tasks}


def test_what_gets_done_is_ticked_and_nothing_else_changes(keeper: Keeper, path: Path) -> None:
    rounds(keeper, path, until="[x] **A.1")
    assert path.read_bytes().decode() == PLAN.replace("[ ] **A.1", "[x] **A.1")


def test_a_tick_by_hand_ends_the_session_and_counts(keeper: Keeper, path: Path) -> None:
    rounds(keeper, path, until="[x] **A.1")
    edit(path, "[ ] **A.2", "[X] **A.2")
    done = rounds(keeper, path, until="[x] **A.3")
    assert [key for found in done for key in found.sent][:1] == ["A.2"]
    assert states(keeper)["A.2"] == ("done", "by file")
    assert "[X] **A.2" in path.read_bytes().decode()
    (attempt,) = keeper.client.task("A.2", plan_id=keeper.client.plan(keeper.ref).id).attempts
    assert attempt.state == "cancelled"


def test_an_untick_by_hand_runs_the_task_once(keeper: Keeper, path: Path) -> None:
    edit(path, "* [x] Known", "* [ ] Known")
    assert keeper.keep().sent == ("known-before",)
    deadline_s = time.monotonic() + 120
    while states(keeper)["known-before"][0] != "done":  # before the next look
        assert time.monotonic() < deadline_s, states(keeper)
        time.sleep(0.1)
    rounds(keeper, path, until="* [x] Known")
    task = keeper.client.task("known-before", plan_id=keeper.client.plan(keeper.ref).id)
    assert [attempt.state for attempt in task.attempts] == ["succeeded"]


def test_a_task_that_is_written_into_the_file_runs(keeper: Keeper, path: Path) -> None:
    edit(path, "# Sync\r\n", "# Sync\r\n\r\n- [ ] **B.1** New\r\n" + FIELDS.format("true"))
    rounds(keeper, path, until="[x] **B.1")


def test_agent_types_beside_the_file_go_along(keeper: Keeper, path: Path) -> None:
    def prompts() -> dict[str, str]:
        return {view.name: view.prompt for view in keeper.client.agent_types(plan=keeper.ref)}

    keeper.keep()
    assert "poet" not in prompts()
    poet = path.parent / "agents" / "poet.md"
    poet.parent.mkdir()
    for prompt in ("Write odes.", "Write sonnets."):
        poet.write_text(f"---\nname: poet\n---\n{prompt}\n")
        assert not keeper.is_as_left()
        keeper.keep()
        assert prompts()["poet"] == prompt
    poet.write_text("---\nname: poet\ntools: []\n---\n")
    with pytest.raises(PlanError, match="`tools` is empty"):
        keeper.keep()
    assert prompts()["poet"] == "Write sonnets."


def test_a_task_that_vanishes_from_the_file_is_left_to_a_person(keeper: Keeper, path: Path) -> None:
    rounds(keeper, path, until="[x] **A.1")
    edit(path, "* [x] Known before\r\n" + FIELDS.format("true"), "")
    assert keeper.keep().missing == ("known-before",)
    assert "known-before" in states(keeper)
    edit(path, "[x] **A.1", "[ ] **A.1")  # marks go on all the same
    assert keeper.keep().sent == ("A.1",)


def test_a_folder_does_not_take_over_the_plan_of_one_of_its_files(
    keeper: Keeper, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.md").write_text("# Other\n\n- [ ] **O.1** Elsewhere\n  - manual: yes\n")
    folder = Keeper(keeper.client, PlanFiles(tmp_path), keeper.ref)
    with pytest.raises(
        Conflict, match="a folder of 2 files, and the plan was handed in as one file"
    ) as refused:
        folder.keep()
    assert "orchestrator import" in refused.value.remedy
    assert "O.1" not in states(keeper)
    texts = {"one.md": path.read_text(), "other.md": (tmp_path / "other.md").read_text()}
    keeper.client.submit(SubmitRequest(text="", files=texts, name=f"{keeper.ref}, a folder"))
    with pytest.raises(Conflict, match="is one file, and the plan was handed in as a folder of 2 files"):
        Keeper(keeper.client, PlanFiles(path), f"{keeper.ref}, a folder").keep()


def test_an_emptied_file_ends_nothing(keeper: Keeper, path: Path) -> None:
    rounds(keeper, path, until="[x] **A.1")
    path.write_bytes(b"")
    with pytest.raises(PlanError, match="empty"):
        keeper.keep()
    assert states(keeper)["A.2"][0] == "running"


def test_the_watcher_follows_both_sides(connect: Callable[[], Client], keeper: Keeper, path: Path) -> None:
    ref = str(keeper.client.plan(keeper.ref).id)
    watcher = Watcher(connect=connect, plans={ref: path}, tell=lambda _: None)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    try:
        await_text(path, "[x] **A.1")
        edit(path, "[ ] **A.2", "[x] **A.2")
        edited_s = time.monotonic()
        await_text(path, "[x] **A.3")
        print(f"tick to done and back in {time.monotonic() - edited_s:.1f} s")
    finally:
        watcher.stop()
        thread.join(60)
    assert not thread.is_alive()


def await_text(path: Path, text: str) -> None:
    """Wait until the file holds a text."""
    deadline_s = time.monotonic() + 120
    while text not in path.read_bytes().decode():
        assert time.monotonic() < deadline_s, path.read_bytes().decode()
        time.sleep(0.1)
