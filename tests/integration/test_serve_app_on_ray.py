"""The HTTP front end under Ray Serve and the Python client, on real actors that do real work."""

import json
import shutil
import subprocess
import sys

import httpx2
import pytest

from orchestrator.store.embedded import purge
from tests.support.postgres import private_home
from tests.support.processes import ROOT, foreign_environment
from tests.support.ray_stack import TOKEN, ray_stack

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(600)]

PLAN = """\
# Two steps

- [ ] **A.1** Say it
  - run: `echo said > out`
- [ ] **A.2** Check it
  - depends: A.1
  - run: `cat out`
"""


@pytest.fixture(scope="module")
def home():
    folder = private_home()
    yield folder
    purge(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def url(home):
    with ray_stack(home) as url:
        yield url


@pytest.fixture
def http(url):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(base_url=f"{url}/api/v1", headers=headers, timeout=120) as client:
        yield client


def run_program(program, *args):
    """Run a program of a user of the Python client; return what it printed as JSON, a value a line."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, args)],
        env=foreign_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_plan_by_http_is_followed_to_its_end(http, tmp_path):
    tmp_path.chmod(0o755)
    answer = http.post(
        "/plans", content=PLAN, headers={"Content-Type": "text/markdown"}, params={"workdir": str(tmp_path)}
    )
    assert answer.status_code == 202, answer.text
    location = answer.headers["location"].removeprefix("/api/v1")
    with http.stream("GET", f"{location}/events") as stream:
        types = []
        for line in stream.iter_lines():
            if line.startswith("event: "):
                types.append(line.removeprefix("event: "))
                if types[-1] in ("plan.done", "plan.stalled"):
                    break
    assert types.count("task.done") == 2
    assert http.get(location).json()["state"] == "done"
    assert (tmp_path / "out").read_text() == "said\n"
    task = http.get("/tasks/A.2", params={"plan": location.rpartition("/")[2]}).json()
    assert [log["text"] for log in http.get(f"/tasks/{task['id']}/logs").json()["items"]][-1] == "said\n"


def test_a_change_by_http_is_refused_by_the_scheduler_in_its_own_words(http, tmp_path):
    tmp_path.chmod(0o755)
    request = {"text": "# Held\n\n- [ ] **A.1** x\n  - manual: push the button\n", "workdir": str(tmp_path)}
    plan_id = http.post("/plans", json=request).json()["plan_id"]
    with http.stream("GET", f"/plans/{plan_id}/events") as stream:
        for line in stream.iter_lines():
            if line == "event: plan.stalled":
                break
    answer = http.post(f"/tasks/A.1/retry?plan={plan_id}")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:orchestrator:error:Conflict")
    assert http.post(f"/plans/{plan_id}/cancel").status_code == 200
    assert http.get(f"/plans/{plan_id}").json()["state"] == "cancelled"


BLOCKING = """
import json, sys
from actors import connect
from orchestrator.errors import Conflict, NotFound
from orchestrator.views import NewNote

home, plan, workdir = sys.argv[1:]
with connect(home=home) as orchestrator:
    submitted = orchestrator.submit(plan, workdir=workdir)
    print(json.dumps([event.type for event in orchestrator.watch(submitted)]))
    print(json.dumps([event.type for event in orchestrator.watch(submitted.plan_id)]))
    result = orchestrator.result(submitted)
    print(json.dumps([result.is_done, [task.state for task in result.tasks]]))
    task = orchestrator.task("A.2", plan=submitted)
    print(json.dumps([log.text for log in orchestrator.logs(task.id)]))
    note = orchestrator.write_note(submitted, NewNote(text="Mind the step.", task="A.2"))
    print(json.dumps([note in orchestrator.notes(submitted, task=key) for key in ("A.1", "A.2")]))
    print(json.dumps([orchestrator.orient(submitted).text, orchestrator.orient(submitted, task="A.2").text]))
    for refused in (lambda: orchestrator.plan("nobody"), lambda: orchestrator.release(task.id)):
        try:
            refused()
        except (NotFound, Conflict) as error:
            print(json.dumps(type(error).__name__))
    print(json.dumps(orchestrator.status().is_ready))
"""

ASYNCHRONOUS = """
import asyncio, json, sys
from actors import aconnect

async def main(home, workdir):
    async with await aconnect(home=home) as orchestrator:
        text = "# {}\\n\\n- [ ] **A.1** x\\n  - run: `sleep 0.1`\\n"
        plans = [await orchestrator.submit(text.format(n), workdir=workdir) for n in range(3)]
        results = await asyncio.gather(*(orchestrator.result(plan) for plan in plans))
        print(json.dumps([result.plan.state for result in results]))

asyncio.run(main(*sys.argv[1:]))
"""

KILLING = """
import json, sys, time
from actors import connect
from orchestrator.errors import OrchestratorError

home, workdir = sys.argv[1:]
with connect(home=home) as orchestrator:
    import ray
    submitted = orchestrator.submit("# Killed\\n\\n- [ ] **A.1** x\\n  - manual: wait\\n", workdir=workdir)
    orchestrator.result(submitted)
    epoch = orchestrator.status().epoch
    ray.kill(ray.get_actor("scheduler", namespace="orchestrator"), no_restart=False)
    refusals = set()
    while True:
        try:
            orchestrator.cancel(submitted)
            break
        except OrchestratorError as error:
            refusals.add(type(error).__name__)
            time.sleep(0.2)
    is_newer = orchestrator.status().epoch > epoch
    print(json.dumps([sorted(refusals), orchestrator.plan(submitted).state, is_newer]))
"""


def test_the_blocking_client_submits_watches_and_reads(url, home, tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "by-client.md").write_text(PLAN.replace("# Two steps\n", ""))
    seen, again, result, logs, noted, packs, *refused, is_ready = run_program(
        BLOCKING, home, tmp_path / "by-client.md", tmp_path
    )
    assert seen[0] == "plan.taken"
    assert "plan.done" in seen
    assert seen == again
    assert result == [True, ["done", "done"]]
    assert logs[-1] == "said\n"
    assert noted == [False, True]
    assert [pack.partition(" ")[2].split()[0] for pack in packs] == ["Plan", "Task"]
    assert refused == ["NotFound", "Conflict"]
    assert is_ready


def test_the_asynchronous_client_waits_for_several_plans_at_once(url, home, tmp_path):
    tmp_path.chmod(0o755)
    assert run_program(ASYNCHRONOUS, home, tmp_path) == [["done", "done", "done"]]


def test_the_client_outlives_a_killed_scheduler(url, home, tmp_path):
    tmp_path.chmod(0o755)
    ((refusals, state, is_newer),) = run_program(KILLING, home, tmp_path)
    assert set(refusals) <= {"Overloaded"}
    assert (state, is_newer) == ("cancelled", True)


CONNECTING = """
import json, sys
from actors import connect
try:
    connect(home=sys.argv[1], address=sys.argv[2])
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


@pytest.mark.parametrize("address", ["", "127.0.0.1:1"])
def test_connecting_to_nothing_says_what_to_do(tmp_path, address):
    ((name, message),) = run_program(CONNECTING, tmp_path, address)
    assert name == "EnvironmentFault"
    assert "orchestrator up" in message


def test_a_ray_that_was_imported_too_early_is_named(url, home):
    ((name, message),) = run_program("import ray\n" + CONNECTING, home, "")
    assert name == "EnvironmentFault"
    assert "RAY_AUTH_MODE=token" in message
