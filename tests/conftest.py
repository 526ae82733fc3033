"""What holds for every test: the hypothesis profiles, and the bans on unit and property tests.

Those two groups may not start Ray and may not reach beyond this machine: so they cannot call a model either.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.support.extent import EXTENT
from tests.support.processes import NO_RAY_UNASKED

TESTS = Path(__file__).parent
CLOSED = ("unit", "property")
LOOPBACK = ("127.", "::1", "localhost")

#: Files whose tests share the stack of their group, the fixture `stack`.
ONE_STACK = {
    "acceptance/test_bad_input.py",
    "acceptance/test_curl.py",
    "integration/test_agent_files.py",
    "integration/test_cli_up.py",
    "integration/test_containment_on_stack.py",
    "integration/test_sync.py",
}

_getaddrinfo = socket.getaddrinfo

os.environ |= NO_RAY_UNASKED

settings.register_profile("bounded", max_examples=50, deadline=None)
settings.register_profile("full", max_examples=2_000, deadline=None)
settings.register_profile(  # for who only wants to know whether something fails
    "unshrunk", max_examples=100, deadline=None, derandomize=True, phases=[Phase.generate], database=None
)
settings.register_profile(
    "ci", max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "bounded")
)


def pytest_report_header() -> str:
    """Say how far the fault tests go."""
    return f"fault tests: {EXTENT}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files whose tests may take longest: begun last, one would keep a worker alone."""
    longest_s: Counter[Path] = Counter()
    for item in items:
        for mark in item.iter_markers("timeout"):
            longest_s[item.path] = max(longest_s[item.path], mark.args[0])
    items.sort(key=lambda item: -longest_s[item.path])


@pytest.hookimpl(optionalhook=True)  # it is xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Give a worker whole files; those of ONE_STACK go to the same one, so that one stack is enough."""
    from xdist.scheduler import LoadFileScheduling

    class ByStack(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "one stack" if file.removeprefix("tests/") in ONE_STACK else file

    return ByStack(config, log) if config.getvalue("dist") == "loadfile" else None


def _is_local(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    return not name or (isinstance(name, str) and name.startswith(LOOPBACK))


def _check(host: object) -> None:
    if not _is_local(host):
        pytest.fail(f"a closed test reached for {host!r}; only loopback is allowed here")


def _local_connect(call: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: socket.socket, address: Any) -> Any:
        if isinstance(address, tuple):  # else the path of a Unix socket
            _check(address[0])
        return call(self, address)

    return connect


def _local_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    _check(host)
    return _getaddrinfo(host, *args, **kwargs)


def _refuse_ray(*args: object, **kwargs: object) -> None:
    pytest.fail("a closed test started Ray; tests that need it belong in tests/integration")


@pytest.fixture(autouse=True)
def closed_world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep unit and property tests on this machine and without Ray."""
    if request.path.relative_to(TESTS).parts[0] not in CLOSED:
        yield
        return
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _local_connect(getattr(socket.socket, name)))
    monkeypatch.setattr(socket, "getaddrinfo", _local_getaddrinfo)
    if "ray" in sys.modules:
        monkeypatch.setattr("ray.init", _refuse_ray)
    yield
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        _refuse_ray()
