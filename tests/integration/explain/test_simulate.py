"""POST /api/v1/tasks/simulate: the whole pipeline, and afterwards nothing is there that was not there before."""

from __future__ import annotations

import pytest
from django.apps import apps

from apps.agents.presence import PresenceBoard
from apps.core import clock
from apps.core import redis as door
from apps.dsl import scripts
from apps.messaging.connection import wire
from apps.orgs.config_store import OrgConfigProvider
from apps.tasks.models import Task
from apps.tasks.queue import PriorityQueue, item_of
from tests.factories import bearer, make_agent, make_entry, make_key, make_org, make_task

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]

PATH = "/api/v1/tasks/simulate"
APPROVALS = {
    1: 'def approve(task):\n    return {"accepted": True, "reason": "fine"}\n',
    2: 'def approve(task):\n    return {"accepted": False, "reason": "not on a Monday"}\n',
    3: 'def approve(task):\n    return {"accepted": None, "reason": "somebody should look"}\n',
    4: "def approve(task):\n    return 1 // 0\n",
}
CACHES = ("jp:config:", "jp:figures:", "jp:metrics")
"""What was read, kept for the next reader."""
AUCTION = 'def auction(task):\n    return {"bid_window_ms": 100, "min_bids": 1}\n'


def register(script_id: str, hook: str, source: str, activate: bool = False) -> None:
    scripts.register(org_id="acme", script_id=script_id, hook=hook, source=source, by="t", now=clock.now(), activate=activate)


@pytest.fixture
def ask(client):
    for version, source in APPROVALS.items():
        register("approval/mine", "approval", source, activate=version == 1)
    make_org("acme", approval_dsl_id="approval/mine")
    for agent in ("ada", "bo"):
        make_agent("acme", agent)
    keys = {role: bearer(make_key("acme", role)) for role in ("submitter", "operator")}
    OrgConfigProvider().of("acme")

    def ask(status=200, role="operator", options=None, **entry):
        data = {"task_goal": "count", "task_intent": "to know", "task_priority_value": 0, "task_id": "what-if", **entry}
        body = data if options is None else {"type": "task", "data": data, "options": options}
        response = client.post(PATH, body, "application/json", headers=keys[role])
        assert response.status_code == status, response.content
        return response.json()

    return ask


def everything() -> dict[str, object]:
    """Every row of every table and every key of Redis, by number and by content."""
    rows = {model._meta.label: model.objects.count() for model in apps.get_models() if model._meta.managed}
    client = door.client()
    keys = {}
    for key in client.scan_iter("*"):
        if not key.startswith(CACHES):
            keys[key] = client.dump(key) if client.type(key) != "stream" else client.xlen(key)
    return {"rows": rows, "keys": sorted(keys), "values": keys}


def test_nothing_is_stored_and_nothing_is_published(ask):
    assert wire().wait_up(10)
    make_task("real")
    PriorityQueue().push("acme", [item_of(Task.objects.get())], now=clock.now())
    register("auction/mine", "auction_input", AUCTION, activate=True)
    register("plan/mine", "plan_retrieve", 'def select(task, candidates):\n    return {"head_agent_subject_id": "bo"}\n', activate=True)
    said = []
    listening = wire().subscribe("agents.>", lambda subject, data: said.append(subject))
    ask()
    before = everything()
    for options in (
        {}, {"config": {"agent_resolution_strategy": "round_robin"}}, {"config": {"agent_resolution_strategy": "static"}},
        {"config": {"agent_resolution_strategy": "auction", "agent_resolution_fallbacks": ["least_loaded"]},
         "scripts": {"auction_input": "auction/mine"}},
        {"config": {"agent_resolution_strategy": "plan+retrieve"}, "scripts": {"plan_retrieve": "plan/mine"}},
        *({"scripts": {"approval": {"script_id": "approval/mine", "version": version}}} for version in APPROVALS),
    ):  # fmt: skip
        assert ask(options=options)["outcome"]
    ask(422, task_priority_value="high")
    after = everything()
    assert after == before, {key for key in after["values"] if after["values"][key] != before["values"].get(key)}
    listening.close()
    assert said == []


def test_an_entry_that_would_go_through_is_told_whole(ask):
    make_task("first", priority=5)
    make_task("second", priority=-5)
    found = ask(role="submitter")
    assert (found["outcome"], found["status"], found["reason"]) == ("assigned", "queued", "fine")
    (approval,) = found["policies"]
    assert (approval["script_id"], approval["script_version"], approval["output"]["accepted"]) == ("approval/mine", 1, True)
    assert found["queue"] == {"position": 1, "ahead_in_org": 1, "lane_size": 2, "held_by": []}
    assert set(found["candidates"]["eligible"]) == {"ada", "bo"}
    assert (found["choice"]["winner"], found["choice"]["strategy"]) == ("ada", "least_loaded")
    assert found["choice"]["details"]["pool_size"] == 2 and found["config_version"] == OrgConfigProvider().of("acme").version
    assert found["summary"].startswith("It would be accepted: behind 1 in its job space, and ada would get it (least_loaded): ")
    assert not Task.objects.filter(task_id="what-if").exists()


@pytest.mark.parametrize(
    ("version", "outcome", "word"),
    [(2, "rejected", "not on a Monday"), (3, "awaiting_approval", "somebody should look"), (4, "awaiting_approval", "division by zero")],
)
def test_a_draft_answers_instead_when_it_is_named(ask, version, outcome, word):
    found = ask(options={"scripts": {"approval": {"script_id": "approval/mine", "version": version}}})
    assert found["outcome"] == outcome and word in found["summary"]
    assert found["policies"][0]["script_version"] == version
    assert found["overridden"]["scripts"] == {"approval": {"script_id": "approval/mine", "version": version}}
    assert (found["choice"] is None) is (outcome == "rejected")


def test_the_draft_goes_before_what_the_entry_itself_names(ask):
    register("approval/theirs", "approval", APPROVALS[1], activate=True)
    found = ask(options={"scripts": {"approval": {"script_id": "approval/mine", "version": 2}}}, task_op_convertor_dsl_id="approval/theirs")
    assert found["outcome"] == "rejected"


def test_a_priority_script_moves_the_place(ask):
    make_task("first", priority=5)
    register("priority/mine", "priority", 'def prioritize(task):\n    return {"priority": 9}\n')
    found = ask(options={"scripts": {"priority": "priority/mine"}})
    assert found["priority"] == {"submitted": 0, "effective": 9} and found["queue"]["position"] == 0


def test_other_values_of_the_configuration_count(ask):
    found = ask(options={"config": {"agent_resolution_strategy": "static", "static_head_agent_subject_id": "bo"}})
    assert found["choice"]["winner"] == "bo"
    found = ask(options={"config": {"candidate_role_type": "NOBODY"}})
    assert found["outcome"] == "no_head_agent" and "No candidate holds the required role" in found["summary"]
    for agent in ("ada", "bo"):
        PresenceBoard().record("acme", agent, slots=1, instance="i", leaving=True, now=clock.now())
    assert ask()["outcome"] == "waiting"


def test_an_auction_is_announced_with_its_terms_and_nobody_is_called(ask):
    register("auction/mine", "auction_input", AUCTION)
    options = {"config": {"agent_resolution_strategy": "auction"}, "scripts": {"auction_input": "auction/mine"}}
    found = ask(options=options)
    assert found["outcome"] == "auction" and found["auction"]["asked"] is False
    assert found["auction"]["called"] == ["ada", "bo"] and found["auction"]["call"]["bid_window_ms"] == 100
    assert [policy["hook"] for policy in found["policies"]] == ["approval", "auction_input"]
    assert wire().wait_up(10)
    asked = ask(options={**options, "ask_bids": True})
    assert asked["auction"]["asked"] is True and asked["auction"]["bids"] == {}
    assert asked["outcome"] == "no_head_agent" and "No acceptable bid came from 2 called" in asked["summary"]


def test_what_was_submitted_before_would_get_the_same_answer_or_a_conflict(ask, client):
    entry = {"task_goal": "count", "task_intent": "to know", "task_priority_value": 0, "task_id": "what-if"}
    assert client.post("/api/v1/tasks", entry, "application/json", headers=bearer(make_key("acme"))).status_code == 201
    assert ask(role="submitter")["outcome"] == "repeated"
    assert ask(409, role="submitter", task_priority_value=1)["code"] == "other_body"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (7, "options"), ({"nonsense": 1}, "options.nonsense"), ({"ask_bids": 1}, "options.ask_bids"), ({"scripts": []}, "options.scripts"),
        ({"config": "x"}, "options.config"), ({"config": {"max_atempts": 1}}, "options.config.max_atempts"),
        ({"config": {"max_attempts": "1"}}, "options.config.max_attempts"),
        ({"config": {"approval_dsl_id": "a"}}, "options.config.approval_dsl_id"),
        ({"config": {"role_group_url": "https://evil.example.com/"}}, "options.config.role_group_url"),
        ({"config": {"role_service_token": "x"}}, "options.config.role_service_token"),
        ({"scripts": {"approvall": "a"}}, "options.scripts.approvall"), ({"scripts": {"approval": 7}}, "options.scripts.approval"),
        ({"scripts": {"approval": "approval/none"}}, "options.scripts.approval"),
        ({"scripts": {"priority": "approval/mine"}}, "options.scripts.priority"),
        ({"scripts": {"approval": {"script_id": "approval/mine", "version": 99}}}, "options.scripts.approval"),
        ({"scripts": {"approval": {"script_id": "approval/mine", "source": "x"}}}, "options.scripts.approval"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(ask, options, field):
    assert [problem["field"] for problem in ask(422, options=options)["errors"]] == [field]


def test_a_wrong_entry_is_named_as_at_a_submission(ask):
    assert {p["field"] for p in ask(422, task_priority_value="high", nonsense=1)["errors"]} == {"task_priority_value", "nonsense"}
    assert {p["field"] for p in ask(422, options={}, task_priority_value="high")["errors"]} == {"data.task_priority_value"}


def test_submitters_may_ask_but_not_with_other_rules_and_never_for_another_org(ask, client):
    assert ask(role="submitter", options={})["outcome"] == "assigned"
    ask(403, role="submitter", options={"ask_bids": True})
    ask(403, role="submitter", options={"config": {"max_attempts": 1}})
    make_org("bolt")
    register("approval/secret", "approval", APPROVALS[1])
    theirs = bearer(make_key("bolt", "operator"))
    body = {"type": "task", "data": make_entry(submitter_subject_id="bolt:x"), "options": {"scripts": {"approval": "approval/secret"}}}
    assert client.post(PATH, body, "application/json", headers=theirs).status_code == 422
    body = {"type": "task", "data": make_entry(submitter_subject_id="acme:x")}
    assert client.post(PATH, body, "application/json", headers=theirs).status_code == 404


def test_an_auction_service_is_announced_and_not_asked_and_no_fallback_is_told_instead(ask):
    register("auction/mine", "auction_input", AUCTION, activate=True)
    service = {"auction_service_url": "https://auctions.example.org/", "auction_input_dsl_id": "auction/mine"}
    make_org("acme", agent_resolution_strategy="auction", agent_resolution_fallbacks=["least_loaded"], **service)
    OrgConfigProvider().refresh("acme")
    told = ask()
    assert (told["outcome"], told["auction"]["source"], told["auction"]["asked"]) == ("auction", "service", False)
    assert told["auction"]["called"] == ["ada", "bo"] and told["auction"]["call"]["bid_window_ms"] == 100
    assert told["summary"].endswith("and the org's auction service would choose among 2 candidates.")
