"""The Job Processing System, table by table: components, DSLs, endpoints. Each test is named after what the document names.

docs/spec-map.md maps every sentence of the document to the tests that show it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.processes import Stack
from tests.stacks import Org

pytestmark = pytest.mark.acceptance

APPROVE = """
def approve(task):
    if "forbidden" in task["goal"]:
        return {"accepted": False, "reason": "we do not do that", "task_id": task["task_id"], "intent": task["intent"],
                "submitter": task["submitter_subject_id"]}
    return {"accepted": True, "reason": "fine"}
"""
RANK = """
def prioritize(task):
    return {"priority": 900 if "urgent" in task["goal"] else 0}
"""
AUCTION = """
def auction(task):
    return {"bid_window_ms": 10000, "min_bids": 1, "rule": "first_price", "weights": {"price": 1.0},
            "brief": {"space": task["job_space_id"], "bids": {
                "ada": {"price": 9.0, "eta_s": 1, "confidence": 0.9}, "bo": {"price": 2.0, "eta_s": 1, "confidence": 0.9}}}}
"""
PLAN = """
def select(task, candidates):
    best = sorted([c["subject_id"] for c in candidates])[-1]
    return {"head_agent_subject_id": best}
"""
# What was written in the last moments may still be on its way into Redis: the loader looks when that is over.
LOAD = "from apps.core import clock; from apps.tasks.loader import SETTLING, TaskLoader; TaskLoader().reconcile(now=clock.now() + SETTLING)"
SCRIPTS = {
    "spec/approve": ("approval", APPROVE),
    "spec/rank": ("priority", RANK),
    "spec/auction": ("auction_input", AUCTION),
    "spec/plan": ("plan_retrieve", PLAN),
    # What a task names instead of its org's: each decides the other way.
    "own/approve": ("approval", 'def approve(task):\n    return {"accepted": True, "reason": "its own says so"}'),
    "own/rank": ("priority", 'def prioritize(task):\n    return {"priority": -7}'),
    "own/auction": ("auction_input", AUCTION.replace("9.0", "1.0")),
    "own/plan": ("plan_retrieve", PLAN.replace("[-1]", "[0]")),
}


@pytest.fixture(scope="module")
def org(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Org]:
    """An org with its scripts and two agents at work."""
    with Org(stack, tmp_path_factory.mktemp("spec"), agents={"ada": {}, "bo": {}}, retry_backoff_s=0.2) as found:
        ann = found.as_("ann")
        for script_id, (hook, source) in SCRIPTS.items():
            body = {"script_id": script_id, "hook": hook, "source": source, "activate": True}
            assert ann.post("/api/v1/policies", body).status == 201
        found.start("ada", "bo")
        yield found


@pytest.fixture(autouse=True)
def defaults_afterwards(org: Org) -> Iterator[None]:
    """Whatever a test configures is gone for the next."""
    yield
    ann = org.as_("ann")
    for each in ann.get("/api/v1/org-config").json["parameters"]:
        if each["is_set"] and each["key"] != "retry_backoff_s":
            assert ann.request("DELETE", f"/api/v1/org-config/{each['key']}").status == 204


def configure(org: Org, **values: Any) -> None:
    for key, value in values.items():
        answer = org.as_("ann").post(f"/org-config/{org.org_id}/{key}", {"value": value})
        assert answer.status == 200, answer.body


def explained(org: Org, task_id: str, kind: str) -> list[dict[str, Any]]:
    found = org.api.get(f"/api/v1/tasks/{task_id}/explain")
    assert found.status == 200
    return [step for step in found.json["steps"] if step["kind"] == kind]


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """Of a refusal, what the document writes."""
    return {name: value for name, value in body.items() if name in ("success", "error", "status", "subject_id")}


# ---- the components ----


def test_component_1_task_initiator(org):
    """Receives submissions, validates via a DSL if required, places approved tasks into the queue."""
    configure(org, approval_dsl_id="spec/approve")
    good, bad = org.entry(task_goal="count"), org.entry(task_goal="forbidden")
    assert org.api.submit(good).json["status"] == "assigned"
    refused = org.api.submit(bad)
    assert (refused.status, refused.json["reason"]) == (422, "we do not do that")
    assert org.path(good["task_id"])[0] == "queued" and org.path(bad["task_id"]) == ["rejected"]


def test_component_2_task_loader(org):
    """Pending tasks whose place in the queue is gone are loaded from the database, queued again, and done."""
    configure(org, queue_paused="the queue is about to be lost")
    entry = org.entry()
    assert org.api.submit(entry, wait=0).json["status"] == "queued"
    assert org.api.task(entry["task_id"])["queue_position"] == 0
    with redis.Redis.from_url(org.stack.state["urls"]["redis"]) as client:
        lost = [key for key in client.scan_iter(f"jp:*{org.org_id}*") if _holds(client, key, entry["task_id"])]
        assert lost and client.delete(*lost, "jp:loader") > len(lost)  # and what was compared when: as after a restart of it all
    org.stack.manage("shell", "-c", LOAD)
    assert org.api.task(entry["task_id"])["queue_position"] == 0
    org.as_("ann").request("DELETE", "/api/v1/org-config/queue_paused")
    assert org.api.ended(entry["task_id"])["status"] == "completed"


def _holds(client: redis.Redis, key: bytes, task_id: str) -> bool:
    """A queue with the task in it."""
    return client.type(key) == b"zset" and any(member.endswith(task_id.encode()) for member in client.zrange(key, 0, -1))


def test_component_3_priority_organizer(org):
    """DSL-based prioritization, or first come first served."""
    configure(org, queue_paused="while the order is looked at")
    names = [org.entry(task_goal=goal)["task_id"] for goal in ("a", "b")]
    for name in names:
        org.api.submit(org.entry(task_id=name, task_goal="calm"), wait=0)
    assert [org.api.task(name)["queue_position"] for name in names] == [0, 1]
    configure(org, priority_assigner_dsl_id="spec/rank")
    urgent = org.entry(task_goal="urgent")
    org.api.submit(urgent, wait=0)
    assert org.api.task(urgent["task_id"])["priority"] == 900
    assert [org.api.task(name)["queue_position"] for name in (urgent["task_id"], *names)] == [0, 1, 2]
    org.as_("ann").request("DELETE", "/api/v1/org-config/queue_paused")
    assert {org.api.ended(name)["status"] for name in (urgent["task_id"], *names)} == {"completed"}


def test_component_4_job_executor_module(org):
    """Pulls org config, invokes the head agent association, and starts job processing."""
    configure(org, max_attempts=2)
    version = org.api.get("/api/v1/org-config").json["version"]
    entry = org.entry()
    assert org.api.submit(entry).json["status"] == "assigned"
    task = org.api.ended(entry["task_id"])
    (chosen,) = explained(org, entry["task_id"], "assignment")
    assert task["status"] == "completed" and task["max_attempts"] == 2
    assert chosen["winner"] == task["agent"] == task["result"]["by"] and chosen["config_version"] == version


def test_component_5_head_agent_association_module(org):
    """Auction DSL, plan-and-retrieve DSL, static mapping: three ways to three agents."""
    configure(org, auction_input_dsl_id="spec/auction", plan_retrieve_dsl_id="spec/plan", static_head_agent_subject_id="ada")
    found = {}
    for strategy in ("auction", "plan+retrieve", "static"):
        configure(org, agent_resolution_strategy=strategy)
        entry = org.entry()
        found[strategy] = org.api.submit(entry, wait=20).json.get("subject_id")
        (chosen,) = explained(org, entry["task_id"], "assignment")
        assert chosen["strategy"] == strategy
    assert found == {"auction": "bo", "plan+retrieve": "bo", "static": "ada"}


def test_component_5_static_assignment_is_validated_against_the_candidate_pool(org):
    configure(org, agent_resolution_strategy="static", static_head_agent_subject_id="stranger")
    answer = org.api.submit(org.entry())
    assert answer.status == 409 and plain(answer.json) == {"error": "No agent could be assigned"}
    assert "not in the candidate pool" in answer.json["reason"]


def test_component_6_agent_candidate_pool_resolver(org):
    """Role mappings and job space decide who is eligible."""
    ann = org.as_("ann")
    assert ann.request("PUT", "/api/v1/roles/north", {"role_type": "SCOUTING", "job_space_id": "north"}).status == 201
    assert ann.request("PUT", "/api/v1/subjects/bo", {"role_ids": ["scouts"], "job_spaces": {"north": ["north"]}}).status == 200
    found = org.as_("olga").post("/api/v1/tasks/simulate", org.entry(job_space_id="north")).json
    assert set(found["candidates"]["eligible"]) == {"ada", "bo"}  # `scouts` counts in every space
    configure(org, candidate_role_type="WRITING")
    assert ann.request("PUT", "/api/v1/roles/writers", {"role_type": "WRITING", "job_space_id": "south"}).status == 201
    assert ann.request("PUT", "/api/v1/subjects/bo", {"role_ids": ["scouts", "writers"]}).status == 200
    sizes = {space: org.as_("olga").post("/api/v1/tasks/simulate", org.entry(job_space_id=space)).json for space in ("south", "north")}
    assert list(sizes["south"]["candidates"]["eligible"]) == ["bo"] and sizes["north"]["candidates"]["size"] == 0


def test_component_7_agent_queue_client(org):
    """The selected agent, and nobody else, gets the task over NATS, as an envelope with the whole entry."""
    configure(org, agent_resolution_strategy="static", static_head_agent_subject_id="ada")
    entry = org.entry(task_goal="one two three")
    org.api.submit(entry)
    assert org.api.ended(entry["task_id"])["result"] == {**org.api.task(entry["task_id"])["result"], "by": "ada", "words": 3}
    assert org.starts(entry["task_id"]) == [("ada", 1)]


def test_component_8_org_execution_config_provider(org):
    """Values per organization in Redis, each parameter independently."""
    configure(org, max_attempts=3, lease_seconds=15)
    with redis.Redis.from_url(org.stack.state["urls"]["redis"]) as client:
        held = {key: client.get(f"jp:config:{org.org_id}:{key}") for key in ("max_attempts", "lease_seconds")}
    assert held == {"max_attempts": b"3", "lease_seconds": b"15"}


def test_component_9_org_initial_job_parser(org):
    """Structure and completeness, every problem at once, nothing stored."""
    entry = org.entry(task_priority_value="high", nonsense=1)
    del entry["task_goal"]
    answer = org.api.submit(entry)
    assert answer.status == 422
    assert {problem["field"] for problem in answer.json["errors"]} == {"data.task_goal", "data.task_priority_value", "data.nonsense"}
    assert org.api.get(f"/api/v1/tasks/{entry['task_id']}").status == 404


# ---- the DSLs: stage, input, output, and where the script is named ----


def test_dsl_job_initiation_approval(org):
    """Before accepting a task; `{accepted, reason, …}`; task.task_op_convertor_dsl_id or org config."""
    entry = org.entry(task_goal="forbidden", task_op_convertor_dsl_id="spec/approve", task_intent="why not")
    assert org.api.submit(entry).status == 422
    (run,) = explained(org, entry["task_id"], "policy")
    assert (run["hook"], run["script_id"]) == ("approval", "spec/approve")
    assert {"task_id", "goal", "intent", "submitter_subject_id"} <= run["input"]["task"].keys()
    assert run["output"]["accepted"] is False and run["output"]["intent"] == "why not"
    configure(org, approval_dsl_id="spec/approve")
    assert org.api.submit(org.entry(task_goal="forbidden")).status == 422
    assert org.api.submit(org.entry(task_goal="forbidden", task_op_convertor_dsl_id="own/approve"), wait=0).status == 202


def test_dsl_task_priority_assigner(org):
    """Before enqueueing; task or sub-task fields; `{priority}`; task_behavior_dsl_map["priority_assigner_dsl_id"] or org config."""
    own = org.entry(task_goal="urgent", task_behavior_dsl_map={"priority_assigner_dsl_id": "spec/rank"})
    org.api.submit(own)
    assert org.api.task(own["task_id"])["priority"] == 900
    configure(org, priority_assigner_dsl_id="spec/rank")
    by_org = org.entry(task_goal="urgent")
    org.api.submit(by_org)
    assert org.api.task(by_org["task_id"])["priority"] == 900
    assert [run["hook"] for run in explained(org, by_org["task_id"], "policy")] == ["approval", "priority"]
    over_org = org.entry(task_goal="urgent", task_behavior_dsl_map={"priority_assigner_dsl_id": "own/rank"}, task_execution_mode="manual")
    org.api.submit(over_org, wait=0)
    assert org.api.task(over_org["task_id"])["priority"] == -7
    part = {
        "sub_task_id": f"{over_org['task_id']}-part", "task_id": over_org["task_id"], "sub_task_goal": "urgent too",
        "sub_task_intent": "of it", "sub_task_priority_value": 1, "parent_subject_ids": ["ada"],
    }  # fmt: skip
    org.api.post("/internal/process-task?wait=0", {"type": "sub_task", "data": part})
    assert org.api.task(part["sub_task_id"])["priority"] == 900
    (run,) = [run for run in explained(org, part["sub_task_id"], "policy") if run["hook"] == "priority"]
    asked = run["input"]["task"]
    assert (asked["goal"], asked["parent_task_id"], asked["priority"]) == ("urgent too", over_org["task_id"], 1)


def test_dsl_auction_input_generator(org):
    """Agent selection by auction; `{ … auction-specific parameters … }`; task_behavior_dsl_map["auction_input_dsl_id"] or org config."""
    configure(org, agent_resolution_strategy="auction")
    own = org.entry(job_space_id="market", task_behavior_dsl_map={"auction_input_dsl_id": "spec/auction"})
    assert org.api.submit(own, wait=20).json["subject_id"] == "bo"
    (run,) = [run for run in explained(org, own["task_id"], "policy") if run["hook"] == "auction_input"]
    assert {"task_id", "goal", "intent", "job_space_id", "submitter_subject_id"} <= run["input"]["task"].keys()
    assert run["output"]["bid_window_ms"] == 10000 and run["output"]["brief"]["space"] == "market"
    (auction,) = explained(org, own["task_id"], "auction")
    assert [(bid["agent"], bid["price"], bid["place"]) for bid in auction["bids"]] == [("bo", 2.0, 1), ("ada", 9.0, 2)]
    configure(org, auction_input_dsl_id="spec/auction")
    assert org.api.submit(org.entry(), wait=20).json["subject_id"] == "bo"
    over_org = org.entry(task_behavior_dsl_map={"auction_input_dsl_id": "own/auction"})
    assert org.api.submit(over_org, wait=20).json["subject_id"] == "ada"


def test_dsl_plan_retrieve(org):
    """Task data + candidates; `{head_agent_subject_id}`; task_behavior_dsl_map["plan_retrieve_dsl_id"] or org config."""
    configure(org, agent_resolution_strategy="plan+retrieve")
    own = org.entry(task_behavior_dsl_map={"plan_retrieve_dsl_id": "spec/plan"})
    assert org.api.submit(own).json["subject_id"] == "bo"
    (run,) = [run for run in explained(org, own["task_id"], "policy") if run["hook"] == "plan_retrieve"]
    assert {candidate["subject_id"] for candidate in run["input"]["candidates"]} == {"ada", "bo"}
    assert run["output"] == {"head_agent_subject_id": "bo"}
    configure(org, plan_retrieve_dsl_id="spec/plan")
    assert org.api.submit(org.entry()).json["subject_id"] == "bo"
    assert org.api.submit(org.entry(task_behavior_dsl_map={"plan_retrieve_dsl_id": "own/plan"})).json["subject_id"] == "ada"


# ---- the endpoints ----


def test_endpoint_1_submit_a_task(org):
    configure(org, agent_resolution_strategy="static", static_head_agent_subject_id="ada")
    answer = org.api.post("/internal/process-task", {"type": "task", "data": org.entry()})
    assert answer.status == 200 and plain(answer.json) == {"status": "assigned", "subject_id": "ada"}
    configure(org, candidate_role_type="NOBODY")
    answer = org.api.post("/internal/process-task", {"type": "task", "data": org.entry()})
    assert answer.status == 409 and plain(answer.json) == {"error": "No agent could be assigned"}


def test_endpoint_1_submit_a_sub_task(org):
    gate = org.gate()
    parent = org.entry(do=gate.do())
    org.api.submit(parent)
    part = {
        "sub_task_id": f"{parent['task_id']}-part", "task_id": parent["task_id"], "sub_task_goal": "a part", "sub_task_intent": "of it",
        "sub_task_priority_value": 1, "parent_subject_ids": ["ada"], "assigned_subject_ids": ["bo"],
    }  # fmt: skip
    answer = org.api.post("/internal/process-task", {"type": "sub_task", "data": part})
    gate.open()
    assert answer.status == 200 and plain(answer.json) == {"status": "assigned", "subject_id": "bo"}


def test_endpoint_2_get_org_configuration_parameter(org):
    path = f"/org-config/{org.org_id}/agent_resolution_strategy"
    missing = org.api.get(path)
    assert missing.status == 404
    assert plain(missing.json) == {"success": False, "error": f"Key 'agent_resolution_strategy' not found for org {org.org_id}"}
    configure(org, agent_resolution_strategy="auction")
    found = org.api.get(path)
    assert found.status == 200
    assert {name: found.json[name] for name in ("success", "key", "value")} == {
        "success": True, "key": "agent_resolution_strategy", "value": "auction",
    }  # fmt: skip


def test_endpoint_3_set_org_configuration_parameter(org):
    path = f"/org-config/{org.org_id}/agent_resolution_strategy"
    answer = org.as_("ann").post(path, {"value": "plan+retrieve"})
    assert answer.status == 200 and plain(answer.json) == {"success": True}
    assert org.api.get(path).json["value"] == "plan+retrieve"
    wrong = org.as_("ann").post(f"/org-config/{org.org_id}/agent_resolution_strategi", {"value": "auction"})
    assert 400 <= wrong.status < 500 and "did you mean 'agent_resolution_strategy'?" in wrong.json["error"]


def test_endpoint_4_query_role_to_group_mapping(org):
    body = {"role_type": "SPEC", "group_ids": ["group-a"], "job_space_id": "space-001"}
    assert org.as_("ann").request("PUT", "/api/v1/roles/scout-1", body).status in (200, 201)
    answer = org.api.post("/role-group", {"role_type": "SPEC", "job_space_id": "space-001"})
    assert answer.status == 200 and answer.json == {
        "success": True,
        "data": [{"role_id": "scout-1", "role_type": "SPEC", "group_ids": ["group-a"], "job_space_id": "space-001"}],
    }
    refused = org.api.post("/role-group", {"$where": "1"})
    assert refused.status == 400 and refused.json["success"] is False and refused.json["errors"][0]["field"] == "$where"


def test_endpoint_5_query_subject_to_role_mapping(org):
    ann = org.as_("ann")
    assert ann.request("PUT", "/api/v1/roles/scout-1", {"role_type": "SPEC"}).status in (200, 201)
    assert ann.request("PUT", "/api/v1/subjects/agent-a", {"job_spaces": {"space-001": ["scout-1"]}}).status in (200, 201)
    answer = org.api.post("/subject-roles", {"role_ids": {"$in": ["scout-1", "scout-2"]}, "job_space_id": "space-001"})
    assert answer.status == 200 and answer.json == {
        "success": True,
        "data": [{"subject_id": "agent-a", "role_ids": ["scout-1"], "subject_type": "agent", "job_space_id": "space-001"}],
    }


# ---- the notes ----


def test_note_apis_are_protected(org):
    nobody = org.stack.api("")
    for method, path in (
        ("POST", "/internal/process-task"), ("GET", f"/org-config/{org.org_id}/max_attempts"),
        ("POST", f"/org-config/{org.org_id}/max_attempts"),
        ("POST", "/role-group"), ("POST", "/subject-roles"),
    ):  # fmt: skip
        assert nobody.request(method, path, {} if method == "POST" else None).status == 401
    assert org.api.post(f"/org-config/{org.org_id}/max_attempts", {"value": 3}).status == 403


def test_note_acceptance_is_synchronous_and_execution_is_not(org):
    gate = org.gate()
    entry = org.entry(do=gate.do())
    answer = org.api.submit(entry)
    assert answer.json["status"] == "assigned"
    assert org.api.task(entry["task_id"])["status"] != "completed"
    gate.open()
    assert org.api.ended(entry["task_id"])["status"] == "completed"
    assert json.loads(answer.body)["task_id"] == entry["task_id"]
