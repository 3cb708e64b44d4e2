"""The commands for people: load the built-ins, try a script."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from apps.dsl.models import PolicyScript
from jobplatform.env import BASE_DIR
from tests.factories import make_entry
from tests.integration.dsl.bombs import approve


def check(path, *arguments: str) -> dict:
    out = io.StringIO()
    call_command("check_policy", str(path), *arguments, stdout=out, stderr=io.StringIO())
    return json.loads(out.getvalue())


@pytest.fixture
def script(tmp_path):
    def write(source: str):
        path = tmp_path / "policy.star"
        path.write_text(source)
        return path

    return write


@pytest.mark.parametrize("wrap", [lambda entry: entry, lambda entry: {"type": "task", "data": entry}])
def test_a_script_is_tried_on_a_task_entry(tmp_path, wrap):
    task = tmp_path / "task.json"
    task.write_text(json.dumps(wrap(make_entry(task_job_submission_data={"path": "a.zip"}))))
    answer = check(BASE_DIR / "dsl_scripts/approval/files.star", "--hook", "approval", "--input", str(task))
    assert answer == {"accepted": False, "reason": "a.zip is a binary file; there is no text to read"}


def test_a_script_is_tried_on_short_names_too(script, tmp_path):
    task = tmp_path / "task.json"
    task.write_text(json.dumps({"goal": "short"}))
    source = approve("return {'accepted': None, 'reason': task['goal'] + task['intent']}")
    assert check(script(source), "--hook=approval", f"--input={task}") == {"accepted": None, "reason": "short"}


def test_a_plan_is_tried_with_an_example_candidate(script):
    source = "def select(task, candidates): return {'head_agent_subject_id': candidates[0]['subject_id']}"
    assert check(script(source), "--hook", "plan_retrieve") == {"head_agent_subject_id": "agent-1"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def approve(task)", "line 1: Parse error"),
        (approve("x = 1", "return task['nope']"), 'line 3: Key `"nope"` was not found'),
        (approve("return {'accepted': 1}"), "`accepted` must be True, False or None, not a number"),
        (approve("for i in range(1000000000):", "    pass"), "took longer than 50 ms"),
        ("def prioritize(task): return 1", "has no function approve"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(script, source, words):
    with pytest.raises(CommandError, match="policy.star") as raised:
        check(script(source), "--hook", "approval", "--timeout-ms", "50")
    assert words in str(raised.value)


@pytest.mark.django_db
def test_loading_twice_changes_nothing():
    out = io.StringIO()
    call_command("load_policies", stdout=out)
    before = set(PolicyScript.objects.values_list("id", "status"))
    call_command("load_policies", stdout=out)
    assert set(PolicyScript.objects.values_list("id", "status")) == before
    assert "approval/default version 1 (new)" in out.getvalue()


def test_the_tests_beside_a_script_are_run_and_each_failure_is_told(script):
    path = script(approve("return {'accepted': task['priority'] < 10}"))
    tests = [{"name": f"priority {n}", "input": {"priority": n}, "expect": {"accepted": True}} for n in (1, 20)]
    path.with_suffix(".tests.json").write_text(json.dumps(tests[:1]))
    out, err = io.StringIO(), io.StringIO()
    call_command("check_policy", str(path), "--hook", "approval", stdout=out, stderr=err)
    assert "ok      priority 1" in out.getvalue() and "1 tests pass" in err.getvalue()
    path.with_suffix(".tests.json").write_text(json.dumps(tests))
    with pytest.raises(CommandError, match="1 of 2 tests fail"):
        call_command("check_policy", str(path), "--hook", "approval", stdout=out, stderr=err)
    assert 'expected {"accepted":true}, got {"accepted":false,"reason":""}' in out.getvalue()
