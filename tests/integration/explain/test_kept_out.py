"""Who could not have a task, and why: what a decision records, and what a waiting task is held by, is what strategies go by."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.utils import quote

from apps.agents.models import Evidence
from apps.agents.presence import Intake, PresenceBoard
from apps.core import clock
from apps.core.auth import Principal
from apps.dsl import scripts
from apps.orgs.config_store import OrgConfigProvider
from apps.tasks import deciding
from apps.tasks.executor import JobExecutor
from apps.tasks.explain import explain
from apps.tasks.intake import TaskIntake
from apps.tasks.loader import TaskLoader
from apps.tasks.models import Assignment, Task
from apps.tasks.parser import InitialJobParser
from apps.tasks.standing import standing
from tests.factories import make_agent, make_entry, make_org

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]

GPU = {"task_streeability_data": {"capabilities": ["gpu"]}}
SAM = Principal(org_id="acme", role="submitter", subject_id="sam", key_id="k", name="")
OLGA = Principal(org_id="acme", role="operator", subject_id="olga", key_id="o", name="")


@pytest.fixture
def acme():
    """One agent with a GPU and one without; each may hold one task."""
    yes = 'def approve(task):\n  return {"accepted": True}\n'
    scripts.register(org_id="acme", script_id="approval/yes", hook="approval", source=yes, by="t", now=clock.now(), activate=True)
    wants()
    make_agent("acme", "ada", capabilities=("gpu",))
    make_agent("acme", "bo")
    for agent in ("ada", "bo"):
        PresenceBoard().record("acme", agent, slots=1, instance="i", leaving=False, now=clock.now())
    TaskLoader().reconcile(now=clock.now())


def wants(**config) -> None:
    make_org("acme", **{"default_agent_slots": 1, "agent_prefetch": 0, "approval_dsl_id": "approval/yes", **config})
    OrgConfigProvider().refresh("acme")


def submit(name: str, **entry) -> Task:
    verdict = TaskIntake().submit(InitialJobParser().parse(make_entry(task_id=name, **entry)), SAM, now=clock.now())
    return Task.objects.get(pk=verdict.key)


def dispatch() -> None:
    JobExecutor().run_batch(now=clock.now())


def decided(name: str) -> dict:
    return Assignment.objects.filter(task_key=f"acme/{name}").latest("attempt").decision


def told(task: Task) -> dict:
    task.refresh_from_db()
    return explain(task, now=clock.now())


def held(task: Task) -> list[str]:
    """As explain says it; the task's own page says the same. None of the agents has ever ended a task, so no estimate."""
    waiting = told(task)["waiting"]
    assert standing(task, now=clock.now()).held_by == waiting["held_by"]
    assert not waiting["held_by"] or (waiting["estimate_s"], waiting["estimate_why"]) == (None, waiting["held_by"][0])
    return waiting["held_by"]


def test_a_decision_keeps_apart_who_might_have_got_it_and_who_could_not(acme):
    submit("fast", **GPU)
    dispatch()
    seen = decided("fast")
    assert (list(seen["eligible"]), seen["eligible_count"], seen["pool_size"]) == (["ada"], 1, 2)
    assert seen["barred"] == {"bo": "lacks gpu"} and seen["barred_by_reason"] == {"lacks gpu": {"count": 1, "agents": ["bo"]}}
    assert Assignment.objects.get().because == "ada is the least loaded of 1 (0 of 1 open)"


def test_a_task_that_only_busy_agents_can_do_is_held_by_them_and_not_next_in_line(acme):
    submit("first", **GPU)
    dispatch()
    waits = submit("second", **GPU)
    dispatch()
    assert held(waits) == ["no room: ada (1 of 1 open) is busy, and the others are no help: bo lacks gpu"]
    pool = told(waits)["waiting"]["candidates"]
    assert (list(pool["eligible"]), pool["free"], pool["barred"]) == (["ada"], 0, {"bo": "lacks gpu"})
    assert held(submit("anybody")) == []


def test_while_those_who_can_do_it_are_busy_the_estimate_is_their_own_pace(acme):
    submit("first", **GPU)
    dispatch()
    ended = clock.now() - timedelta(seconds=5)
    for number, seconds in enumerate((900, 1000, 3000)):  # ada has a task for a thousand seconds, usually
        Evidence.objects.create(
            id=f"acme/old{number}#1", org_id="acme", agent="ada", task_key=f"acme/old{number}", attempt=1, outcome="completed",
            assigned_at=ended - timedelta(seconds=seconds), ended_at=ended, seconds=seconds,
        )  # fmt: skip
    waits = [submit(name, **GPU) for name in ("second", "third")]
    found = [told(task)["waiting"] for task in waits]
    assert [(each["position"], each["estimate_s"]) for each in found] == [(0, 1000.0), (1, 2000.0)]
    assert found[0]["held_by"][0].startswith("no room: ada (1 of 1 open) is busy") and "go on as they did" in found[0]["estimate_why"]
    Task.objects.filter(task_id="first").update(assigned_at=clock.now() - timedelta(seconds=30_000))  # this one takes longer than usual
    assert 30_000 <= told(waits[0])["waiting"]["estimate_s"] < 40_000


def test_a_part_that_names_whom_it_is_for_is_held_by_him(acme):
    parent = submit("whole")
    data = {"sub_task_goal": "g", "sub_task_intent": "i", "sub_task_priority_value": 0, "parent_subject_ids": ["bo"]}
    dispatch()
    whose = Task.objects.get(pk=parent.key).head_agent_subject_id
    (other,) = {"ada", "bo"} - {whose}
    data |= {"sub_task_id": "part", "task_id": "whole", "assigned_subject_ids": [whose]}
    verdict = TaskIntake().submit(InitialJobParser().parse(data, kind="sub_task", submitter="acme:sam"), SAM, now=clock.now())
    part = Task.objects.get(pk=verdict.key)
    why = f"no room: {whose} (1 of 1 open) is busy, and the others are no help: {other} is not among the assigned subjects"
    assert held(part) == [why]


def test_when_nobody_who_can_do_it_takes_work_they_are_named_with_the_reason(acme):
    PresenceBoard().record("acme", "ada", slots=1, instance="i", leaving=True, now=clock.now())
    assert held(submit("later", **GPU)) == ["no candidate that can do it takes work now: ada (away)"]
    nobody = submit("never", task_streeability_data={"capabilities": ["tpu"]})
    assert held(nobody) == ["No candidate can do the task: ada lacks tpu, bo lacks tpu"]


def test_the_agent_an_org_names_is_all_that_counts_where_no_other_strategy_follows(acme):
    wants(agent_resolution_strategy="static", static_head_agent_subject_id="ada")
    submit("first")
    dispatch()
    waits = submit("second")
    assert held(waits) == ["no room: ada, the org's configured head agent, is busy (1 of 1 open)"]
    wants(agent_resolution_strategy="static", static_head_agent_subject_id="ada", agent_resolution_fallbacks=["least_loaded"])
    assert held(waits) == []
    dispatch()
    why = "The configured head agent, ada, is busy (1 of 1 open)"
    assert decided("second")["refusals"] == [{"strategy": "static", "why": why}]
    (step,) = [step for step in told(waits)["steps"] if step["kind"] == "assignment"]
    assert step["summary"].endswith(f"; static, asked before, found nobody: {why}.")


def test_the_agent_an_org_names_gets_nothing_it_cannot_do_and_nothing_while_it_takes_none(acme):
    wants(agent_resolution_strategy="static", static_head_agent_subject_id="bo")
    cannot = submit("fast", **GPU)
    dispatch()
    cannot.refresh_from_db()
    assert cannot.status == "failed" and cannot.reason.endswith("static: The configured head agent, bo, lacks gpu")
    PresenceBoard().record("acme", "bo", slots=1, instance="i", intake=Intake.PAUSED, leaving=False, now=clock.now())
    waits = submit("plain")
    dispatch()
    assert held(waits) == ["bo, the org's configured head agent, takes no work now: paused by itself"]
    assert not Assignment.objects.exists()


def test_a_task_names_other_scripts_than_its_org_for_either_strategy(acme):
    for name, place in (("first", 0), ("last", -1)):
        source = f"def select(task, candidates):\n  return {{'head_agent_subject_id': candidates[{place}]['subject_id']}}"
        scripts.register(org_id="acme", script_id=name, hook="plan_retrieve", source=source, by="t", now=clock.now(), activate=True)
    wants(agent_resolution_strategy="plan+retrieve", plan_retrieve_dsl_id="first", agent_resolution_fallbacks=["static"])
    auction = {"agent_resolution_strategy": "auction", "auction_input_dsl_id": "none-such"}
    failed = submit("auction", task_behavior_dsl_map=auction)
    dispatch()
    submit("org")
    submit("own", task_behavior_dsl_map={"plan_retrieve_dsl_id": "last"})
    dispatch()
    assert (decided("org")["script_id"], decided("own")["script_id"]) == ("first", "last")
    failed.refresh_from_db()
    assert "auction: The script none-such set no terms: there is no such policy script; static:" in failed.reason


def test_whoever_was_chosen_is_never_listed_as_kept_out_nor_missing(acme):
    for number in range(25):
        make_agent("acme", f"idle{number:02}")
        PresenceBoard().record("acme", f"idle{number:02}", slots=1, instance="i", leaving=False, now=clock.now())
    make_agent("acme", "cy")  # never announced itself
    wants(agent_resolution_strategy="static", static_head_agent_subject_id="cy")
    submit("quiet")
    dispatch()
    seen = decided("quiet")
    assert "cy" in seen["eligible"] and "cy" not in seen["barred"] and seen["barred_by_reason"] == {}
    assert Assignment.objects.get().because.endswith("though it has never announced itself")
    wants(agent_resolution_strategy="static", static_head_agent_subject_id="idle24")
    submit("loud")
    dispatch()
    assert decided("loud")["eligible"]["idle24"] == {"load": 0, "room": 1, "presence": "present"}


def test_what_a_person_assigned_is_explained_on_the_page_for_people_too(acme, admin_client):
    task = submit("by-hand", task_execution_mode="auto")
    deciding.assign(task, OLGA, subject_id="bo", reason="he knows them", now=clock.now())
    shown = admin_client.get(f"/admin/tasks/task/{quote(task.key)}/explain/")
    assert shown.status_code == 200 and "bo (chosen)" in shown.text and "chose bo: he knows them" in shown.text
    Assignment.objects.update(decision={"eligible": ["ada", "bo"], "barred": {}})  # as it was once written
    assert "bo (chosen)" in admin_client.get(f"/admin/tasks/task/{quote(task.key)}/explain/").text


def test_what_held_instead_of_a_policy_that_failed_is_told_as_the_org_wished_it_then(acme):
    for hook in ("approval", "priority"):
        source = f"def {'approve' if hook == 'approval' else 'prioritize'}(task):\n  return 1\n"
        scripts.register(org_id="acme", script_id=f"{hook}/bad", hook=hook, source=source, by="t", now=clock.now(), activate=True)
    wants(approval_dsl_id="approval/bad", approval_on_error="reject")
    refused = submit("refused")
    wants(approval_dsl_id="approval/bad", priority_assigner_dsl_id="priority/bad", priority_on_error=5, approval_on_error="hold")
    waits = submit("waits")
    (verdict, *_), (verdict2, rank, *_) = told(refused)["steps"], told(waits)["steps"]
    assert (refused.status, waits.status, waits.priority) == ("rejected", "awaiting_approval", 5)
    assert verdict["summary"].endswith("; the task is rejected.") and verdict2["summary"].endswith("; the task waits for a person.")
    assert rank["summary"].endswith("; the priority is 5.") and rank["instead"] == "the priority is 5"
