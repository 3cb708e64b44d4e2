"""People whose roles a service outside keeps: it is asked who may decide, and while it does not say, nobody does."""

from __future__ import annotations

import pytest

from apps.core import clock
from apps.core import redis as door
from apps.tasks.executor import JobExecutor
from apps.tasks.models import Assignment, Task
from tests.factories import make_agent, make_entry, make_key
from tests.integration.people.test_inbox import ids, signed_in
from tests.integration.roles.test_role_services import Service, http
from tests.integration.tasks_api.conftest import ASK_PERSON, Caller, register

pytestmark = [pytest.mark.store, pytest.mark.django_db]


def holders(role_id: str, *names: str, kind: str = "human") -> list[dict]:
    return [{"subject_id": name, "role_ids": [role_id], "subject_type": kind, "job_space_id": ""} for name in names]


class Elsewhere(Service):
    """Knows of every role type one role, and who holds it."""

    held = {"LEAD": holders("LEAD", "ann"), "SCOUTING": holders("SCOUTING", "ada", kind="agent")}

    def _speak(self, connection, request):
        path, asked = self.asked[-1]
        role_type = asked.get("role_type") or asked["role_ids"]["$in"][0]
        self.roles = {"success": True, "data": [{"role_id": role_type, "role_type": role_type, "group_ids": [], "job_space_id": ""}]}
        self.holders = {"success": True, "data": self.held[role_type]}
        return super()._speak(connection, request)


@pytest.fixture
def service(redis, nats, serve):
    service = Elsewhere(serve)
    service.config(approval_dsl_id="approval/person", role_service_cache_s=0, role_service_stale_s=0)
    register("approval/person", "approval", ASK_PERSON)
    for name in ("ann", "bea"):
        make_agent("acme", name, role_id="writers", role_type="WRITING", subject_type="human")
    return service


def key_of(name: str, role: str = "submitter") -> Caller:
    return Caller(make_key("acme", role, name))


def submit(task_id: str = "t1", wish: str = "yes", **fields) -> Task:
    payload = {"wish": wish, "approvers": ["role:LEAD"]}
    assert key_of("sam").post("/api/v1/tasks", make_entry(task_id=task_id, task_job_submission_data=payload, **fields)).status_code == 201
    JobExecutor().run_batch(now=clock.now())
    return Task.objects.get(pk=f"acme/{task_id}")


def test_a_role_that_is_kept_elsewhere_decides(service):
    submit(wish="ask")
    assert (ids(key_of("ann"), "approvals"), ids(key_of("bea"), "approvals")) == (["t1"], [])
    assert service.asked[0] == ("/role-group", {"role_type": "LEAD", "job_space_id": ""})
    assert key_of("bea").post("/api/v1/tasks/t1/approve").json()["code"] == "not_yours"
    assert key_of("ann").post("/api/v1/tasks/t1/approve").json()["status"] == "queued"


def test_while_nobody_can_say_who_holds_the_role_nobody_decides_and_the_inbox_says_so(service):
    submit(wish="ask")
    service.raw = http({}, "500 Oops")
    refused = key_of("ann").post("/api/v1/tasks/t1/approve")
    assert (refused.status_code, refused.json()["code"]) == (503, "roles_unknown") and "answered 500" in refused.text
    found = key_of("ann").get("/api/v1/inbox").json()
    assert found["approvals"] == [] and "answered 500" in found["roles_unknown"]
    assert "may be missing here for now" in signed_in("ann").get("/inbox/").text
    service.raw = None
    door.client().flushdb()  # as after the pause that a failure brings
    found = key_of("ann").get("/api/v1/inbox").json()
    assert ([task["task_id"] for task in found["approvals"]], found["roles_unknown"]) == (["t1"], None)


def test_a_choice_by_hand_rests_on_what_the_service_says_and_records_it(service):
    """Of a task, and of a sub-task that names whom it is for."""
    submit("t1", task_execution_mode="hybrid")
    part = {
        "sub_task_id": "s1", "task_id": "t1", "sub_task_goal": "a part", "sub_task_intent": "x", "sub_task_priority_value": 0,
        "parent_subject_ids": ["ada"], "assigned_subject_ids": ["ada"],
    }  # fmt: skip
    assert key_of("sam").post("/internal/process-task?wait=0", {"type": "sub_task", "data": part}).status_code == 202
    ours, olga = {"subject_id": "ada"}, key_of("olga", "operator")
    service.raw = http({}, "500 Oops")
    for name in ("t1", "s1"):
        refused = olga.post(f"/api/v1/tasks/{name}/assign", ours)
        assert (refused.status_code, refused.json()["code"]) == (503, "roles_unknown")
    service.raw = None
    door.client().flushdb()
    for name in ("t1", "s1"):
        assert olga.post(f"/api/v1/tasks/{name}/assign", ours).json()["status"] == "dispatched"
        assert Assignment.objects.get(task_key=f"acme/{name}").decision["roles"] == {"from": "service", "age_s": 0.0}
