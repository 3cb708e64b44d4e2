"""GET /api/v1/tasks/{id}/explain: every decision with its record, and what an open task waits for."""

from __future__ import annotations

import re
from datetime import timedelta

import orjson
import pytest
from django.contrib.admin.utils import quote

from apps.agents.market.records import Auction, Bid
from apps.agents.presence import PresenceBoard
from apps.core import clock, ids
from apps.core.auth import Principal
from apps.dsl import scripts
from apps.dsl.models import PolicyRun
from apps.messaging.envelope import AgentReport, ReportKind
from apps.tasks.executor import JobExecutor
from apps.tasks.explain import explain
from apps.tasks.intake import TaskIntake
from apps.tasks.loader import TaskLoader
from apps.tasks.models import Assignment, Decision, Task, Transition
from apps.tasks.parser import InitialJobParser
from apps.tasks.results import ReportDesk
from tests.factories import bearer, make_agent, make_entry, make_key, make_org, make_task

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]

APPROVE = 'def approve(task):\n    return {"accepted": True, "reason": "short enough"}\n'
RANK = 'def prioritize(task):\n    return {"priority": 7, "reason": "it is Monday"}\n'


@pytest.fixture
def acme():
    for hook, source in (("approval", APPROVE), ("priority", RANK)):
        scripts.register(org_id="acme", script_id=f"{hook}/mine", hook=hook, source=source, by="t", now=clock.now(), activate=True)
    make_org("acme", approval_dsl_id="approval/mine", priority_assigner_dsl_id="priority/mine")
    make_agent("acme", "ada")
    make_agent("acme", "bo")
    TaskLoader().reconcile(now=clock.now())  # limits count what agents hold, once Redis and database were compared
    return Principal(org_id="acme", role="submitter", subject_id="sam", key_id="k", name="")


def submit(who: Principal, **entry) -> Task:
    verdict = TaskIntake().submit(InitialJobParser().parse(make_entry(**entry)), who, now=clock.now())
    assert verdict.error is None
    return Task.objects.get(pk=verdict.key)


def told(task: Task) -> dict:
    task.refresh_from_db()
    found = explain(task, now=clock.now())
    assert orjson.dumps(found)
    return found


def test_every_decision_of_a_task_s_life_is_told_in_order_with_its_record(acme):
    board = PresenceBoard()
    board.record("acme", "bo", slots=1, instance="i", leaving=False, now=clock.now())
    task = submit(acme, task_id="life")
    JobExecutor().run_batch(now=clock.now())
    about = {"org_id": "acme", "task_id": "life", "agent": "bo", "attempt": 1, "seq": 1}
    done = AgentReport(kind=ReportKind.COMPLETED, at=clock.now(), result={"n": 1}, **about)
    ReportDesk().apply([done], now=clock.now())
    found = told(task)
    assert [(step["kind"], step.get("hook") or step.get("status") or step.get("winner")) for step in found["steps"]] == [
        ("policy", "approval"), ("policy", "priority"), ("transition", "queued"),
        ("assignment", "bo"), ("transition", "assigned"), ("transition", "dispatched"), ("transition", "completed"),
    ]  # fmt: skip
    (
        approval,
        priority,
        *_,
    ) = found["steps"]
    script = scripts.PolicyScript.objects.get(script_id="approval/mine")
    assert (approval["script_id"], approval["script_version"], approval["script_sha256"]) == ("approval/mine", 1, script.sha256)
    assert approval["input"]["task"]["task_id"] == "life" and approval["output"]["accepted"] is True
    assert approval["summary"] == "approval/mine@1 approved it: short enough."
    assert priority["summary"] == "priority/mine@1 set the priority to 7: it is Monday."
    chosen = next(step for step in found["steps"] if step["kind"] == "assignment")
    assert chosen["decision"]["barred"] == {"ada": "never announced itself while others are present"}
    assert list(chosen["decision"]["eligible"]) == ["bo"] and chosen["decision"]["roles"] == {"from": "tables"}
    assert chosen["summary"].startswith("Attempt 1: bo was chosen by least_loaded from 2 candidates: bo is the least loaded of 1")
    assert found["priority"] == {"submitted": 0, "effective": 7}
    assert found["waiting"] is None and found["summary"].startswith("Completed by bo after ")
    assert [step["step"] for step in found["steps"]] == list(range(1, 8))


def test_an_assignment_tells_what_was_promised_and_what_was_charged(acme):
    PresenceBoard().record("acme", "bo", slots=1, instance="i", leaving=False, now=clock.now())
    task = submit(acme, task_id="priced")
    JobExecutor().run_batch(now=clock.now())
    Assignment.objects.update(strategy="auction", decision={"promise": {"price": 2, "eta_s": 10}})

    def assignment() -> dict:
        return next(step for step in told(task)["steps"] if step["kind"] == "assignment")

    assert assignment()["price"] == {"promised": 2, "charged": None, "ratio": None} and "charged" not in assignment()["summary"]
    about = {"org_id": "acme", "task_id": "priced", "agent": "bo", "attempt": 1, "seq": 1}
    ReportDesk().apply([AgentReport(kind=ReportKind.COMPLETED, at=clock.now(), result=1, price=3.0, **about)], now=clock.now())
    assert assignment()["price"] == {"promised": 2, "charged": 3.0, "ratio": 1.5}
    Transition.objects.filter(new="completed").update(at=Assignment.objects.get().at + timedelta(seconds=12.5))
    assert assignment()["time_s"] == {"promised": 10, "took": 12.5, "ratio": 1.25}
    assert "; it took 12.5 s, having promised 10 s; it charged" in assignment()["summary"]
    assert assignment()["summary"].endswith("; it charged 3, having promised 2.")


def test_every_decision_says_which_version_of_the_configuration_it_was_made_with(acme):
    from apps.orgs.config_store import OrgConfigProvider

    version = OrgConfigProvider().of("acme").version
    for value in (3, 4):
        OrgConfigProvider().set("acme", "max_attempts", value, by="t", now=clock.now())
    task = submit(acme, task_id="pinned", task_priority_value=2)
    OrgConfigProvider().set("acme", "max_attempts", 6, by="t", now=clock.now())
    JobExecutor().run_batch(now=clock.now())
    found = told(task)
    assert found["config_version"] == {"now": version + 3, "decided_with": [version + 2, version + 3]}
    by_kind = {step["kind"]: step["config_version"] for step in found["steps"] if step["kind"] in ("policy", "assignment")}
    assert by_kind == {"policy": version + 2, "assignment": version + 3}
    make_org("acme", assignment_deadline_s=60)
    OrgConfigProvider().set("acme", "candidate_role_type", "NOBODY", by="t", now=clock.now())
    other = submit(acme, task_id="nobody")
    JobExecutor().run_batch(now=clock.now())
    (decision,) = [step for step in told(other)["steps"] if step["kind"] == "decision"]
    assert (decision["about"], decision["config_version"]) == ("no_head_agent", version + 4)
    assert {row.config_version for model in (PolicyRun, Decision) for row in model.objects.all()} == {version + 2, version + 4}


def test_an_auction_is_told_with_every_bid_its_parts_and_what_was_ignored(acme):
    task = make_task("sold", job_space_id="x")
    at = clock.now()
    auction = Auction.objects.create(
        id=ids.time_ordered(), org_id="acme", task_key=task.key, attempt=1, outcome="awarded", because="ada made the best of 2 bids",
        rule="first_price", winner="ada", price=2.0, pays=2.0, called=3, bids=2, ignored=1, terms={"bid_window_ms": 200}, at=at,
        config_version=4,
    )  # fmt: skip
    for number, (agent, outcome, place, why) in enumerate(
        [("bo", "accepted", 2, ""), ("cy", "ignored", None, "it came late"), ("ada", "accepted", 1, "")]
    ):
        Bid.objects.create(
            id=f"{auction.id}:{number}", auction_id=auction.id, org_id="acme", task_key=task.key, agent=agent, outcome=outcome, why=why,
            place=place, price=2.0, score=1.5, parts={"price": 1.0, "eta": 0.5}, at=at,
        )  # fmt: skip
    (step,) = [step for step in told(task)["steps"] if step["kind"] == "auction"]
    bids = [(bid["agent"], bid["place"], bid["why"]) for bid in step["bids"]]
    assert bids == [("ada", 1, ""), ("bo", 2, ""), ("cy", None, "it came late")]
    assert step["bids"][0]["parts"] == {"price": 1.0, "eta": 0.5} and step["config_version"] == 4
    assert step["summary"] == "An auction among 3 candidates went to ada for 2, out of 2 bids: ada made the best of 2 bids."


# ---- waiting ----


def test_next_in_line_is_held_by_nothing_and_the_others_know_how_many_are_before_them(acme):
    first, second = submit(acme, task_id="a"), submit(acme, task_id="b")
    found = [told(task)["waiting"] for task in (first, second)]
    assert [(each["for"], each["position"], each["held_by"]) for each in found] == [("an agent", 0, []), ("an agent", 1, [])]
    assert found[0]["estimate_s"] is None and found[0]["estimate_why"]
    assert set(found[0]["candidates"]["eligible"]) == {"ada", "bo"} and found[0]["candidates"]["size"] == 2
    assert told(second)["summary"] == "Waits for an agent, 1 before it in its job space."


def test_nobody_present_all_busy_and_nobody_at_all_are_named(acme):
    task = submit(acme, task_id="a")
    board = PresenceBoard()
    for agent in ("ada", "bo"):
        board.record("acme", agent, slots=1, instance="i", leaving=True, now=clock.now())
    waiting = told(task)["waiting"]
    assert waiting["held_by"] == ["no candidate takes work now: ada (away), bo (away)"] and waiting["candidates"]["barred"]["ada"] == "away"
    assert waiting["estimate_s"] is None and waiting["estimate_why"] == waiting["held_by"][0]
    lonely = submit(acme, task_id="lonely", job_space_id="")
    make_org("acme", candidate_role_type="NOBODY")
    from apps.core import redis

    for key in redis.client().scan_iter("*:config:*"):
        redis.client().delete(key)
    assert told(lonely)["waiting"]["held_by"] == ["no candidate holds the required role in this job space"]


def test_from_what_was_dispatched_lately_an_estimate_is_made(acme):
    for name in ("a", "b"):
        submit(acme, task_id=name)
    JobExecutor().run_batch(now=clock.now())
    waiting = told(submit(acme, task_id="c"))["waiting"]
    assert waiting["per_minute"] == pytest.approx(2, abs=0.2) and waiting["estimate_s"] == pytest.approx(30, abs=4)
    assert waiting["held_by"] == [] and waiting["estimate_why"] == ""


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"queue_paused": "month end"}, "paused: month end"),
        ({"max_inflight": 2}, "max_inflight: 2 of 2 are with agents"),
        ({"default_agent_slots": 1, "agent_prefetch": 0}, "no room: all 2 candidates are busy"),
    ],
)
def test_what_the_org_holds_its_tasks_with_is_named(acme, config, word):
    make_org("acme", **config)
    for name in ("a", "b"):
        submit(acme, task_id=name)
    JobExecutor().run_batch(now=clock.now())
    waiting = told(submit(acme, task_id="held"))["waiting"]
    assert waiting["held_by"] == [word] and (waiting["estimate_s"], waiting["estimate_why"]) == (None, word)


def test_a_concurrency_key_that_is_taken_is_named_with_who_has_it(acme):
    for name in ("one", "two"):
        submit(acme, task_id=name, task_streeability_data={"concurrency": {"key": "site", "limit": 1, "mode": "queue"}})
        JobExecutor().run_batch(now=clock.now())
    found = told(Task.objects.get(task_id="two"))
    assert found["waiting"]["where"] == "parked" and "concurrency key" in found["waiting"]["held_by"][0]
    assert "one" in found["waiting"]["held_by"][0]


def test_a_time_to_come_is_named(acme):
    at = clock.now() + timedelta(hours=1)
    task = submit(acme, task_id="later", task_completion_timeline={"not_before": clock.iso(at)})
    waiting = told(task)["waiting"]
    assert waiting["where"] == "delayed" and waiting["held_by"][0] == f"not before {clock.iso(at)}"


def test_an_approval_names_whom_it_waits_for(acme):
    task = submit(acme, task_id="manual", task_op_convertor_dsl_id="approval/none-such")
    found = told(task)
    assert found["waiting"]["for"] == "a person's approval" and found["waiting"]["asked"] == ["any operator"]
    assert found["waiting"]["estimate_why"] == "a person decides"
    assert "gave no answer (there is no such policy script)" in found["steps"][0]["summary"]
    assert found["summary"].startswith("Waits for a person's approval: asked: any operator")


def test_work_in_hand_is_told_with_the_agent_s_progress(acme):
    task = submit(acme, task_id="work")
    JobExecutor().run_batch(now=clock.now())
    Task.objects.filter(pk=task.key).update(status="running", progress=40.0, started_at=clock.now() - timedelta(seconds=20))
    found = told(task)
    assert 29 <= found["waiting"]["estimate_s"] <= 32 and found["waiting"]["estimate_why"] == "from the agent's progress"
    assert "works on it for 2" in found["summary"] and "40 % done" in found["summary"]


# ---- bounds and doors ----


def test_the_cost_does_not_grow_with_the_history(acme, django_assert_max_num_queries):
    task = make_task("long")
    Transition.objects.bulk_create(
        Transition(id=ids.time_ordered(), task_key=task.key, org_id="acme", old="queued", new="assigned", actor="x", at=clock.now())
        for _ in range(260)
    )
    Assignment.objects.bulk_create(
        Assignment(id=f"{task.key}#{n}", task_key=task.key, org_id="acme", attempt=n, head_agent_subject_id="ada", strategy="static",
                   because="x", decision={}, at=clock.now()) for n in range(1, 220)
    )  # fmt: skip
    with django_assert_max_num_queries(12):
        found = explain(task, now=clock.now())
    assert len(found["steps"]) == 400 and found["cut"] == [
        "only the last 200 of kind assignment are shown", "only the last 200 of kind transition are shown",
    ]  # fmt: skip


def test_another_org_s_task_is_as_missing_as_one_that_never_was(client, acme):
    submit(acme, task_id="ours")
    make_org("bolt")
    theirs, ours = bearer(make_key("bolt")), bearer(make_key("acme"))
    assert client.get("/api/v1/tasks/ours/explain", headers=ours).json()["task_id"] == "ours"
    answers = [client.get(f"/api/v1/tasks/{name}/explain", headers=theirs) for name in ("ours", "never")]
    bodies = [{k: v for k, v in each.json().items() if k != "request_id"} for each in answers]
    assert [each.status_code for each in answers] == [404, 404] and bodies[0] == bodies[1]
    assert client.get("/api/v1/tasks/ours/explain", headers=bearer(make_key("acme", "agent", subject_id="x"))).status_code == 403


def test_the_page_for_people_shows_the_same_and_runs_nothing(acme, admin_client):
    task = submit(acme, task_id="page", task_goal="<script>alert(1)</script>", task_intent="<b>x</b>")
    make_agent("acme", "<i>cy</i>")
    JobExecutor().run_batch(now=clock.now())
    change = admin_client.get(f"/admin/tasks/task/{quote(task.key)}/change/").text
    link = re.search(r'href="(/admin/tasks/task/[^"]+/explain/)"', change)[1]
    shown = admin_client.get(link).text
    for text in ("approval/mine@1 approved it: short enough.", "was chosen by least_loaded from 3 candidates", "(chosen)",
                 "what the script saw", "configuration version", "&lt;script&gt;alert(1)", "&lt;i&gt;cy&lt;/i&gt;"):  # fmt: skip
        assert text in shown, text
    assert "<script>alert" not in shown and "<i>cy" not in shown
    waiting = submit(acme, task_id="manual", task_op_convertor_dsl_id="approval/none-such")
    assert "asked: any operator" in admin_client.get(f"/admin/tasks/task/{quote(waiting.key)}/explain/").text
    assert admin_client.get("/admin/tasks/task/acme_2Fnone/explain/").status_code == 404


def test_the_page_asks_who_is_there(acme, client):
    task = submit(acme, task_id="page")
    assert client.get(f"/admin/tasks/task/{quote(task.key)}/explain/").status_code == 302
