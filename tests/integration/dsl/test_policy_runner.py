"""Asking policies: every question gets a decision, whatever the script does."""

from __future__ import annotations

import pytest

from apps.dsl import scripts
from apps.dsl.book import ScriptBook
from apps.dsl.engine import Engine
from apps.dsl.facts import task_facts
from apps.dsl.models import PolicyRun
from apps.dsl.policies import Hook
from apps.dsl.runner import PolicyRequest, PolicyRunner
from tests.factories import NOON, make_entry
from tests.integration.dsl.bombs import BOMBS, approve

APPROVE = approve("return {'accepted': task['priority'] > 0, 'reason': 'priority %d' % task['priority']}")


@pytest.fixture
def runner(db, sandbox: Engine) -> PolicyRunner:
    return PolicyRunner(scripts=ScriptBook(), sandbox=sandbox)


def register(script_id: str, source: str, *, org_id: str = "acme", hook: str = "approval") -> None:
    scripts.register(org_id=org_id, script_id=script_id, hook=hook, source=source, by="tests", now=NOON, activate=True)


def request(script_id: str | None, *, org_id: str = "acme", priority: int = 1, timeout_ms: int = 200, **inputs) -> PolicyRequest:
    entry = make_entry(task_priority_value=priority, submitter_subject_id=f"{org_id}:sam")
    return PolicyRequest(
        org_id=org_id,
        task_key=f"{org_id}/{entry['task_id']}",
        script_id=script_id,
        input={"task": task_facts(entry), **inputs},
        timeout_ms=timeout_ms,
        config_version=3,
    )


def decide(runner: PolicyRunner, *requests: PolicyRequest, hook: Hook = Hook.APPROVAL):
    return runner.decide_many(hook, list(requests), now=NOON)


def test_decisions_come_in_order_with_the_script_that_made_them(runner):
    register("mine", APPROVE)
    decisions = decide(runner, *(request("mine", priority=n) for n in range(-2, 3)))
    assert [d.output["accepted"] for d in decisions] == [False, False, False, True, True]
    assert {(d.script_id, d.script_version, len(d.script_sha256), d.error) for d in decisions} == {("mine", 1, 64, "")}
    assert all(d.duration_us > 0 for d in decisions)


def test_a_batch_may_mix_orgs_scripts_and_mistakes(runner):
    register("mine", APPROVE)
    register("mine", approve("return {'accepted': None}"), org_id="other")
    register("rank", "def prioritize(task): return {'priority': 1}", hook="priority")
    others = (request(script_id) for script_id in ("rank", "nope", None, ""))
    decisions = decide(runner, request("mine"), request("mine", org_id="other"), *others)
    assert [d.output and d.output["accepted"] for d in decisions] == [True, None, None, None, None, None]
    assert decisions[1].output == {"accepted": None, "reason": ""}
    assert [d.error for d in decisions] == ["", "", "the script answers priority, not approval", "there is no such policy script", "", ""]
    assert [d.script_id for d in decisions] == ["mine", "mine", "rank", "nope", "", ""]


def test_a_foreign_script_is_as_unknown_as_a_missing_one(runner):
    register("theirs", APPROVE, org_id="other")
    foreign, missing, odd = decide(runner, request("theirs"), request("missing"), request("a b\x00" + "x" * 500))
    assert foreign.error == missing.error == odd.error == "there is no such policy script"
    assert (foreign.output, foreign.script_version, foreign.script_sha256) == (None, 0, "")


def test_an_own_script_that_was_never_activated_is_told_from_one_that_does_not_exist(runner):
    scripts.register(org_id="acme", script_id="draft", hook="approval", source=APPROVE, by="tests", now=NOON)
    draft, foreign = decide(runner, request("draft"), request("draft", org_id="other"))
    assert (draft.error, foreign.error) == ("the policy script has no active version", "there is no such policy script")


@pytest.mark.parametrize(
    "name", ["a loop of a milliard steps", "the text of a deep list", "failing on purpose", "an answer of a hundred kilobytes"]
)
def test_a_script_that_goes_wrong_is_an_error_in_its_own_decision(runner, name):
    register("bomb", BOMBS[name][0])
    register("mine", APPROVE)
    before, bomb, after = decide(runner, request("mine"), request("bomb", timeout_ms=50), request("mine"))
    assert bomb.output is None
    assert bomb.error
    assert (bomb.script_id, bomb.script_version) == ("bomb", 1)
    assert before.output == after.output == {"accepted": True, "reason": "priority 1"}


@pytest.mark.parametrize(
    "answer", ["None", "True", "1", "'yes'", "[]", "{}", "{'accepted': 1}", "{'accepted': 'true'}", "{'accepted': None, 'reason': 1}"]
)
def test_an_answer_of_the_wrong_shape_is_an_error(runner, answer):
    register("odd", approve(f"return {answer}"))
    (decision,) = decide(runner, request("odd"))
    assert decision.output is None
    assert "must be" in decision.error or "has no" in decision.error


def test_priorities_are_whole_numbers(runner):
    for name, answer in {"good": "5", "truth": "True", "fraction": "5.0", "beyond": "1001"}.items():
        register(name, f"def prioritize(task): return {{'priority': {answer}}}", hook="priority")
    decisions = decide(runner, *(request(name) for name in ("good", "truth", "fraction", "beyond")), hook=Hook.PRIORITY)
    assert [d.output for d in decisions] == [{"priority": 5}, None, None, None]
    assert all(d.error for d in decisions[1:])


def test_a_plan_chooses_among_its_candidates(runner):
    plan = "def select(task, candidates): return {'head_agent_subject_id': task['goal'] or candidates[-1]['subject_id']}"
    register("plan", plan, hook="plan_retrieve")
    candidates = [{"subject_id": "ada"}, {"subject_id": "bo"}]
    outsider = request("plan", candidates=candidates)
    insider = request("plan", candidates=candidates)
    insider.input["task"]["goal"] = ""
    inside, outside = decide(runner, insider, outsider, hook=Hook.PLAN_RETRIEVE)
    assert inside.output == {"head_agent_subject_id": "bo"}
    assert outside.output is None
    assert "is not a candidate" in outside.error


def test_no_questions_need_no_answers(runner):
    assert decide(runner) == []


@pytest.mark.store
def test_every_decision_leaves_a_row(runner):
    register("mine", APPROVE)
    decisions = decide(runner, request("mine"), request("nope"), request(None))
    PolicyRun.objects.bulk_create([decision.row() for decision in decisions])
    rows = list(PolicyRun.objects.order_by("id"))
    assert [row.script_id for row in rows] == ["mine", "nope", ""]
    assert rows[0].output == {"accepted": True, "reason": "priority 1"}
    assert rows[0].input["task"]["goal"] == "count the words"
    assert (rows[0].hook, rows[0].script_version, rows[0].config_version, rows[0].at) == ("approval", 1, 3, NOON)
    assert rows[1].error == "there is no such policy script"
    assert rows[1].output is None
