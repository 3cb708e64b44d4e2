import pickle

import pytest

from apps.core import errors

FAMILIES = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.PlatformError)]


@pytest.mark.parametrize(
    ("family", "status"),
    [
        (errors.Malformed, 400),
        (errors.Unauthenticated, 401),
        (errors.Forbidden, 403),
        (errors.Missing, 404),
        (errors.Conflict, 409),
        (errors.Unassignable, 409),
        (errors.TooLarge, 413),
        (errors.UnsupportedMedia, 415),
        (errors.Refused, 422),
        (errors.Unavailable, 503),
    ],
)
def test_a_family_knows_its_status(family, status):
    assert family().status == status
    assert family().code and family().sentence


def test_only_an_absent_dependency_is_worth_trying_again():
    for family in FAMILIES:
        assert family.retry_helps == issubclass(family, errors.Unavailable)


def test_facts_are_attributes_and_stand_behind_the_sentence():
    error = errors.Missing(task_id="t1")
    assert error.task_id == "t1"
    assert str(error) == "Not found. (task_id='t1')"
    with pytest.raises(AttributeError):
        error.org_id  # noqa: B018


def test_an_invalid_input_tells_every_problem():
    problems = [
        errors.Problem(field="task_goal", code="missing", message="is required"),
        errors.Problem(field="", code="too_deep", message="is nested too deep"),
    ]
    error = errors.Invalid(problems)
    assert [problem.json()["field"] for problem in error.problems] == ["task_goal", ""]
    assert str(error) == "The input is not valid. task_goal: is required; (body): is nested too deep"


def test_an_error_survives_copying_between_processes():
    error = pickle.loads(pickle.dumps(errors.Missing(task_id="t1")))
    assert (error.status, error.facts) == (404, {"task_id": "t1"})
