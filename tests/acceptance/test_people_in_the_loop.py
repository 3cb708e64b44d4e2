"""People and agents in one flow, on a whole platform: a task waits for its approver, an agent makes a part of it, a person does
that part in the inbox, the verifier sends the result back once and accepts it then."""

from __future__ import annotations

import pytest

from jobplatform_sdk import Client
from tests.processes import wait_until

pytestmark = pytest.mark.acceptance


def test_a_task_goes_from_its_approver_over_an_agent_and_a_person_to_its_verifier(make_org):
    org = make_org(
        agents={"ada": {}, "hanna": {"subject_type": "human"}},
        agent_resolution_strategy="static", static_head_agent_subject_id="ada",
        agent_resolution_fallbacks=["least_loaded"], verification_required=True, four_eyes=True,
    )  # fmt: skip
    org.start("ada")
    url = org.stack.url
    with Client(url, org.keys["sam"]) as sam, Client(url, org.keys["olga"]) as olga, Client(url, org.keys["hanna"]) as hanna:
        task_id = sam.submit_entry(
            org.entry(task_execution_mode="manual", task_verification_subject_id="olga", do={"seconds": 0.05}), wait=0
        ).task_id  # fmt: skip
        held = sam.get(task_id)
        assert (held.status, held.waiting_for["of"]) == ("awaiting_approval", ["@operators"])

        part = sam.sub_task(
            task_id, goal="read it", intent="by a person", parent_subject_ids=["ada"], assigned_subject_ids=["hanna"]
        )  # fmt: skip
        made = wait_until(lambda: [each for each in hanna.inbox().to_do if each.task_id == part.task_id], seconds=20)
        assert made[0].parent_task_id == task_id
        inbox = org.as_("hanna")
        assert inbox.post(f"/api/v1/inbox/{part.task_id}/start").status == 200
        assert inbox.post(f"/api/v1/inbox/{part.task_id}/progress", {"percent": 50}).status == 200
        parts = sam.get(task_id).sub_tasks
        assert (parts["total"], parts["progress"]) == (1, 50.0)
        assert inbox.post(f"/api/v1/inbox/{part.task_id}/complete", {"result": "read"}).status == 200
        assert sam.wait(part.task_id, timeout=20).result == "read"
        assert [each.task_id for each in sam.sub_tasks(task_id)] == [part.task_id]

        assert olga.approve(task_id, "needed").status in ("queued", "awaiting_assignment")
        assert olga.assign(task_id, "ada", "she is free").assignment.strategy == "manual"
        wait_until(lambda: sam.get(task_id).status == "awaiting_verification", seconds=20)
        assert [each.task_id for each in olga.inbox().verifications] == [task_id]
        olga.verify(task_id, "send_back", "once more, please")
        wait_until(lambda: sam.get(task_id).status in ("awaiting_assignment", "queued"), seconds=20)
        olga.assign(task_id, "ada")
        wait_until(lambda: sam.get(task_id).status == "awaiting_verification", seconds=20)
        assert olga.verify(task_id, "accept").completed
        decided = [(item.data["decided"], item.data["outcome"]) for item in sam.events(task_id) if item.kind == "decision"]
    assert decided == [
        ("approval", "approved"), ("manual_assignment", "chosen"), ("verification", "send_back"), ("manual_assignment", "chosen"),
        ("verification", "accept"),
    ]  # fmt: skip
