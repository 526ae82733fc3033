"""The HTTP front end by real requests: uvicorn on a loopback port, a real PostgreSQL behind it."""

import json
import socket
import threading
from functools import partial
from urllib.parse import urlsplit

import httpx2
import pytest

from orchestrator import errors
from orchestrator.core.requests import TASK_REQUESTS
from orchestrator.settings import Http
from orchestrator.views import EventView, PlanView, Submitted, TaskDetail
from tests.support.http_server import TOKEN, serving
from tests.support.postgres import database, migrated, own_database, postgres  # noqa: F401 - fixtures
from tests.support.service import PLAN, RememberingScheduler, commit_events, execute

pytestmark = pytest.mark.postgres
AUTH = {"Authorization": f"Bearer {TOKEN}"}
MARKDOWN = {"Content-Type": "text/markdown"}

#: How long an answer may take on a machine with other work.
PATIENCE_S = 120
get = partial(httpx2.get, timeout=PATIENCE_S)
post = partial(httpx2.post, timeout=PATIENCE_S)
stream_of = partial(httpx2.stream, timeout=PATIENCE_S)


@pytest.fixture
def scheduler():
    return RememberingScheduler()


@pytest.fixture
def url(database, tmp_path, scheduler):  # noqa: F811
    with serving(database, tmp_path, scheduler=scheduler) as url:
        yield url


@pytest.fixture
def http(url):
    with httpx2.Client(base_url=f"{url}/api/v1", headers=AUTH, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def shared_url(migrated, tmp_path_factory):  # noqa: F811
    """A server with one plan, for requests that change nothing."""
    home = tmp_path_factory.mktemp("home")
    with (
        own_database(migrated, template=migrated.database) as address,
        serving(address.urls(), home, scheduler=RememberingScheduler()) as url,
    ):
        post(f"{url}/api/v1/plans", content=PLAN, headers=AUTH | MARKDOWN).raise_for_status()
        yield url


@pytest.fixture
def plan(http):
    return Submitted.model_validate(http.post("/plans", content=PLAN, headers=MARKDOWN).json())


def problem(answer, status, code):
    """Check that an answer is a problem of this status and class, and return it."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    told = answer.json()
    assert told["type"] == f"urn:orchestrator:error:{code}"
    assert told["status"] == status
    assert told["title"]
    assert told["detail"]
    assert issubclass(getattr(errors, code), errors.OrchestratorError)
    return told


def events_of(lines):
    """Parse server-sent events; comments are yielded as they are."""
    fields = {}
    for line in lines:
        if line.startswith(":"):
            yield line
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields
            fields = {}


def test_markdown_is_handed_in_as_it_is(http, scheduler):
    answer = http.post(
        "/plans",
        content=PLAN,
        headers=MARKDOWN,
        params={"name": "release 2", "take": "true", "workdir": "/srv/x"},
    )
    submitted = Submitted.model_validate(answer.json())
    assert answer.status_code == 202
    assert (submitted.name, submitted.tasks_total) == ("release 2", 5)
    shown = PlanView.model_validate(http.get(answer.headers["location"].removeprefix("/api/v1")).json())
    assert (shown.id, shown.workdir, shown.state) == (submitted.plan_id, "/srv/x", "submitted")
    assert scheduler.nudges == 1


def test_json_is_handed_in_with_its_options(http):
    answer = http.post("/plans", json={"text": PLAN, "name": "by json", "until_key": "A.2"})
    assert answer.status_code == 202
    assert Submitted.model_validate(answer.json()).name == "by json"


def test_a_plan_in_json_is_a_plan(http):
    document = {"plan_version": 1, "title": "Native", "tasks": [{"key": "A", "title": "x", "run": ["true"]}]}
    answer = http.post("/plans", json=document, params={"name": "native"})
    assert answer.status_code == 202, answer.text
    assert http.get("/plans/native").json()["format"] == "native"


def test_a_repeated_post_is_answered_alike(http):
    answers = [
        http.post("/plans", content=PLAN, headers={**MARKDOWN, "Idempotency-Key": "k"}) for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.text for answer in answers}) == 1


def test_a_plan_and_its_tasks_are_read(http, plan, database):  # noqa: F811
    assert [item["id"] for item in http.get("/plans").json()["items"]] == [plan.plan_id]
    assert http.get("/plans/Ship it").json()["id"] == plan.plan_id
    page = http.get(f"/plans/{plan.plan_id}/tasks", params={"limit": 2}).json()
    following = http.get(f"/plans/{plan.plan_id}/tasks", params={"after": page["next"]}).json()
    keys = [task["key"] for task in page["items"] + following["items"] if task["kind"] == "leaf"]
    assert keys == ["A.1", "A.2", "A.3", "A.4", "A.5"]
    ready = "UPDATE task_states SET state = 'ready' FROM tasks WHERE id = task_id AND tasks.priority = 0"
    execute(database, ready)
    for path in (f"/plans/{plan.plan_id}/tasks/ready", f"/tasks/ready?plan={plan.plan_id}"):
        assert [task["key"] for task in http.get(path).json()["items"]] == ["A.2"]
    task = TaskDetail.model_validate(http.get("/tasks/A.2", params={"plan": "Ship it"}).json())
    assert TaskDetail.model_validate(http.get(f"/tasks/{task.id}").json()) == task
    assert http.get(f"/tasks/{task.id}/logs").json() == {"items": [], "next": ""}


def test_a_name_with_slashes_finds_its_plan(http):
    http.post("/plans", json={"text": PLAN, "name": "docs/plan.md"})
    assert http.get("/plans/docs%2Fplan.md").json()["name"] == "docs/plan.md"
    assert http.get("/plans/docs%2Fplan.md/tasks").json()["items"]


@pytest.mark.parametrize("action", ["cancel", "pause", "resume"])
def test_changes_of_a_plan_go_to_the_scheduler(http, plan, scheduler, action):
    answer = http.post(
        f"/plans/Ship it/{action}", json={"reason": "because"}, headers={"Idempotency-Key": "k"}
    )
    assert (answer.status_code, answer.json()) == (200, {"state": "accepted"})
    ((kind, args, key),) = scheduler.requests
    assert (kind, args["plan_id"], args["reason"], key) == (f"{action}_plan", plan.plan_id, "because", "k")


@pytest.mark.parametrize(
    "action", sorted(kind.removesuffix("_task") for kind in TASK_REQUESTS - {"set_task_budget"})
)
def test_changes_of_a_task_go_to_the_scheduler(http, plan, scheduler, action):
    task = http.get(f"/tasks/A.3?plan={plan.plan_id}").json()
    assert http.post(f"/tasks/{task['id']}/{action}").status_code == 200
    ((kind, args, _),) = scheduler.requests
    assert (kind, args["task_id"], args["plan_id"]) == (f"{action}_task", task["id"], plan.plan_id)


@pytest.mark.parametrize(
    ("path", "body", "kind", "said"),
    [
        ("/pause", {"reason": "why"}, "pause_all", {"reason": "why"}),
        ("/resume", None, "resume_all", {}),
        (
            "/limits",
            {"sessions_max": 8, "agents": {"coder": 0}, "day_budget": 9},
            "set_limits",
            {
                "limits": {
                    "sessions_max": 8,
                    "agents": {"coder": 0},
                    "tenants": {},
                    "plans": {},
                    "tenant_budgets": {},
                    "day_budget": 9,
                }
            },
        ),
        ("/plans/Ship it/budget", {"budget_micros": 7}, "set_budget", {"plan_id": 1, "budget_micros": 7}),
        (
            "/tasks/A.1/budget",
            {"budget_micros": 7},
            "set_task_budget",
            {"plan_id": 1, "task_id": 2, "budget_micros": 7},
        ),
    ],
)
def test_changes_of_everything_and_of_a_budget_go_to_the_scheduler(
    http, plan, scheduler, path, body, kind, said
):
    answer = http.post(path, json=body, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 200
    ((asked, args, key),) = scheduler.requests
    assert (asked, key) == (kind, "k")
    assert {name: value for name, value in args.items() if value} == {"tenant_id": "local", **said}


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"X-Token": TOKEN}],
)
@pytest.mark.parametrize(
    "path", ["/api/v1/plans", "/api/v1/status", "/api/v1/events", "/openapi.json", "/docs"]
)
def test_without_the_token_nothing_is_told(shared_url, headers, path):
    answer = get(shared_url + path, headers=headers)
    assert problem(answer, 401, "Unauthorized")["remedy"]
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_refused_plan_tells_its_findings(http, database):  # noqa: F811
    text = "# P\n\n- [ ] **A.1** x\n  - depends: A.7\n"
    told = problem(http.post("/plans", content=text, headers=MARKDOWN), 422, "PlanError")
    assert [(f["line"], f["code"]) for f in told["findings"] if f["severity"] == "error"] == [
        (4, "unknown-dependency")
    ]
    assert told["remedy"]
    assert execute(database, "SELECT count(*) FROM plans") == [(0,)]


@pytest.mark.parametrize(
    ("method", "path", "arguments", "status", "code"),
    [
        ("GET", "/plans/nobody", {}, 404, "NotFound"),
        ("GET", "/plans/nobody/events", {}, 404, "NotFound"),
        ("GET", "/events?plan=nobody", {}, 404, "NotFound"),
        ("GET", "/tasks/99", {}, 404, "NotFound"),
        ("POST", "/tasks/99/retry", {}, 404, "NotFound"),
        ("GET", "/nothing", {}, 404, "NotFound"),
        ("DELETE", "/plans", {}, 405, "RequestRefused"),
        ("POST", "/plans", {"content": "x"}, 415, "RequestRefused"),
        ("POST", "/plans", {"content": b"\xff\xfe\x00", "headers": MARKDOWN}, 422, "PlanError"),
        (
            "POST",
            "/plans",
            {"content": "{", "headers": {"Content-Type": "application/json"}},
            400,
            "RequestRefused",
        ),
        ("POST", "/plans", {"json": {"text": "x", "colour": "red"}}, 400, "RequestRefused"),
        ("POST", "/plans?colour=red", {"content": PLAN, "headers": MARKDOWN}, 400, "RequestRefused"),
        ("GET", "/plans?limit=0", {}, 400, "RequestRefused"),
        ("GET", "/plans?after=x", {}, 400, "RequestRefused"),
        ("GET", "/events?after=-1", {}, 400, "RequestRefused"),
        ("GET", "/events", {"headers": {"Last-Event-ID": "seven"}}, 400, "RequestRefused"),
        ("GET", "/plans/Ship it/tasks?state=asleep", {}, 400, "RequestRefused"),
        ("POST", "/plans/Ship it/cancel", {"json": {"why": "x"}}, 400, "RequestRefused"),
        ("POST", "/plans/Ship it/budget", {"json": {"budget_micros": -1}}, 400, "RequestRefused"),
        ("POST", "/limits", {"json": {"sessions_max": -1}}, 400, "RequestRefused"),
        ("POST", "/limits", {"json": {"agents": {"a\0": 1}}}, 400, "RequestRefused"),
        ("POST", "/limits", {"json": {"plans": {"99": 1}}}, 404, "NotFound"),
    ],
)
def test_every_refusal_is_a_problem(shared_url, method, path, arguments, status, code):
    with httpx2.Client(base_url=f"{shared_url}/api/v1", headers=AUTH, timeout=PATIENCE_S) as http:
        problem(http.request(method, path, **arguments), status, code)


def test_a_conflict_is_a_problem(http, plan):
    answer = http.post("/plans", content=PLAN + "\n- [ ] **A.6** More\n", headers=MARKDOWN)
    assert "--fresh" in problem(answer, 409, "Conflict")["remedy"]


def test_an_absent_scheduler_is_a_problem_with_a_time(http, plan, scheduler, url):
    scheduler.error = errors.Overloaded("The scheduler is starting.", retry_after_s=2.4)
    answer = http.post("/plans/Ship it/cancel")
    problem(answer, 503, "Overloaded")
    assert answer.headers["retry-after"] == "2"
    problem(get(f"{url}/readyz"), 503, "Overloaded")
    assert get(f"{url}/healthz").json() == {"status": "ok"}
    assert http.get("/status").json()["is_ready"] is False


def test_health_needs_no_token(shared_url):
    assert get(f"{shared_url}/readyz").json() == {"status": "ready"}


def test_an_absent_database_is_a_problem(database, tmp_path, scheduler):  # noqa: F811
    away = type(database)(**dict.fromkeys(database.__slots__, "postgresql://u:secret@127.0.0.1:1/d"))
    with serving(away, tmp_path, scheduler=scheduler) as url:
        answer = get(f"{url}/api/v1/plans", headers=AUTH)
        assert "secret" not in answer.text
        problem(answer, 503, "DatabaseUnavailable")
        assert answer.headers["retry-after"] == "1"
        problem(get(f"{url}/readyz"), 503, "DatabaseUnavailable")


def test_a_large_body_is_refused(database, tmp_path, scheduler):  # noqa: F811
    with serving(database, tmp_path, scheduler=scheduler, http=Http(body_bytes_max=2000)) as url:
        for headers in (MARKDOWN, {"Content-Type": "application/json"}):
            answer = post(f"{url}/api/v1/plans", headers=AUTH | headers, content=b"x" * 2001)
            problem(answer, 413, "RequestRefused")
        answer = post(f"{url}/api/v1/plans/1/cancel", headers=AUTH, content=b"x" * 2001)
        problem(answer, 413, "RequestRefused")


def test_a_slow_answer_is_given_up_and_a_stream_is_not(database, tmp_path, scheduler):  # noqa: F811
    with serving(database, tmp_path, scheduler=scheduler, http=Http(request_timeout_s=0.5)) as url:
        where = urlsplit(url)
        with socket.create_connection((where.hostname, where.port), timeout=60) as slow:
            head = f"POST /api/v1/plans HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            slow.sendall(f"{head}Content-Type: text/plain\r\nContent-Length: 100\r\n\r\nhalf".encode())
            assert b" 504 " in slow.recv(100)
        with stream_of("GET", f"{url}/api/v1/events", headers=AUTH) as stream:
            threading.Timer(1.5, commit_events, args=(database, "task.done")).start()
            told = events_of(stream.iter_lines())
            assert next(told).startswith(":")
            assert next(told)["event"] == "task.done"


def test_events_stream_and_resume_behind_the_last_one_seen(http, database, plan):  # noqa: F811
    seqs = commit_events(database, "plan.taken", "task.ready", "task.running", plan_id=plan.plan_id)
    commit_events(database, "plan.taken")
    with http.stream("GET", f"/plans/{plan.plan_id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = events_of(stream.iter_lines())
        assert next(told).startswith(":")
        first = next(told)
        event = EventView.model_validate(json.loads(first["data"]))
        assert (first["id"], first["event"], event.seq) == (str(seqs[0]), "plan.taken", seqs[0])
    with http.stream(
        "GET", "/events", headers={"Last-Event-ID": first["id"]}, params={"after": "0"}
    ) as stream:
        told = events_of(stream.iter_lines())
        assert next(told).startswith(":")
        assert [next(told)["id"] for _ in range(2)] == [str(seqs[1]), str(seqs[2])]
        assert next(told)["event"] == "plan.taken"
        live = commit_events(database, "task.done", plan_id=plan.plan_id)
        assert next(told)["id"] == str(live[0])


def test_events_are_also_a_page(http, database, plan):  # noqa: F811
    seqs = commit_events(database, "plan.taken", "task.ready", "task.running", plan_id=plan.plan_id)
    json_only = {"Accept": "application/json"}
    page = http.get("/events", params={"limit": 2}, headers=json_only).json()
    assert [event["seq"] for event in page["items"]] == seqs[:2]
    assert http.get("/events", params={"after": page["next"]}, headers=json_only).json()["next"] == ""


def test_the_document_describes_every_route(shared_url):
    document = get(f"{shared_url}/openapi.json", headers=AUTH).json()
    assert get(f"{shared_url}/docs", headers=AUTH).status_code == 200
    assert "/api/v1/plans/{ref}/tasks/ready" in document["paths"]
    assert "text/markdown" in document["paths"]["/api/v1/plans"]["post"]["requestBody"]["content"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert "application/problem+json" in operation["responses"]["503"]["content"], path
            assert "HTTPValidationError" not in json.dumps(operation)
    named = set(document["components"]["schemas"])
    assert {text.rpartition("/")[2] for text in _references(document)} <= named


def _references(value):
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
