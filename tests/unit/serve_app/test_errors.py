"""The table from the error tree to HTTP."""

import inspect

import pytest

from orchestrator import errors
from orchestrator.client.problems import error_from
from serve_app.errors import problem_response, status_of

CLASSES = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.OrchestratorError)
]

EXPECTED = {
    "PlanError": 422,
    "NotFound": 404,
    "Conflict": 409,
    "Unauthorized": 401,
    "Overloaded": 503,
    "QueueFull": 429,
    "RequestRefused": 400,
    "EnvironmentFault": 503,
    "DatabaseUnavailable": 503,
    "ServerUnavailable": 503,
}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_has_its_status(cls):
    assert status_of(cls("x")) == EXPECTED.get(cls.__name__, 500)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_http_client_raises_what_the_service_raised(cls):
    answer = problem_response(status_of(cls("x")), code=cls, detail="The thing.", remedy="Mend it.")
    again = error_from(answer.status_code, answer.headers, answer.body)
    assert (type(again), again.message, again.remedy) == (cls, "The thing.", "Mend it.")
