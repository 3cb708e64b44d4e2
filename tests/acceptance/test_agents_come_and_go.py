"""An agent's life on a whole platform: invited, enrolled, at work, drained, revoked; and a task that kills whoever takes it."""

from __future__ import annotations

import pytest

from jobplatform_sdk import Client, enrol
from tests.processes import wait_until

pytestmark = pytest.mark.acceptance


def test_an_agent_is_invited_works_is_drained_and_revoked(make_org):
    org = make_org(agents={"bo": {}})
    with Client(org.stack.url, org.keys["olga"]) as olga:
        token = olga.invite_agent("ada", roles=["scouts"], expires_in_s=600).token
        enrolled = enrol(org.stack.url, token, card={"capabilities": ["words"], "description": "counts"})
        assert (enrolled.org_id, enrolled.subject_id) == (org.org_id, "ada")
        org.keys["ada"] = enrolled.api_key
        [process] = org.start("ada")
        org.start("bo")
        gate = org.gate()
        entries = [org.entry(task_streeability_data={"capabilities": ["words"]}, do=gate.do()) for _ in range(2)]
        org.api.submit_bulk(entries)
        wait_until(lambda: olga.agent("ada").load == 2, what="ada is at work")
        assert olga.drain_agent("ada", "a new machine").state == "draining"
        gate.open()
        assert {org.api.ended(entry["task_id"])["result"]["by"] for entry in entries} == {"ada"}
        wait_until(lambda: olga.agent("ada").state == "drained", what="ada is drained")
        plain = org.entry()
        assert org.api.submit(plain).json["subject_id"] == "bo"
        olga.undrain_agent("ada")
        long = org.entry(do={"seconds": 60}, task_streeability_data={"capabilities": ["words"]})
        org.api.submit(long)
        wait_until(lambda: org.api.task(long["task_id"])["status"] == "running", what="running")
        gone = olga.revoke_agent("ada", "lost laptop")
        assert (gone.state, gone.data["told_nats"]) == ("revoked", True)
        wait_until(lambda: not process.alive, what="the agent was told that its key is refused, and ended")
        given_back = [line["reason"] for line in org.api.get(f"/api/v1/tasks/{long['task_id']}/events").json["items"] if "reason" in line]
        assert "ada was revoked: lost laptop" in given_back


@pytest.mark.parametrize("stack", ["sqlite"], indirect=True)
def test_a_task_that_kills_three_agents_is_quarantined_and_nobody_is_barred_for_it(make_org):
    org = make_org(agents={name: {} for name in ("ada", "bo", "cy", "di")}, lease_seconds=1, retry_backoff_s=0, breaker_failures=2)
    org.start("ada", "bo", "cy")
    poison = org.entry(do={"die": True})
    org.api.submit(poison, wait=0)
    ended = org.api.ended(poison["task_id"], seconds=60)
    assert ended["status"] == "failed"
    assert ended["reason"].startswith("quarantined: it crashed 3 agents (ada, bo, cy)")
    org.start("di")
    good = org.entry()
    org.api.submit(good)
    assert org.api.ended(good["task_id"])["result"]["by"] == "di"
    with Client(org.stack.url, org.keys["olga"]) as olga:
        assert {agent.breaker for agent in olga.agents()} == {"closed"}
        assert sum(agent.data["reputation"]["excused"] for agent in olga.agents()) == 3
