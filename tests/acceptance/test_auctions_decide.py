"""A task by auction on a whole platform: called, bid for, awarded, declined, done by the runner-up, and explained."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.acceptance

TERMS = """
def auction(task):
    return {"rule": "second_price", "bid_window_ms": 10000, "reserve_price": 50, "brief": {"bids": task["payload"].get("bids", {})}}
"""


@pytest.fixture
def market(make_org):
    org = make_org(
        agents={"ada": {}, "bo": {}, "cy": {}}, agent_resolution_strategy="auction", agent_resolution_fallbacks=["static"],
        static_head_agent_subject_id="cy", retry_backoff_s=0.1,
    )  # fmt: skip
    ann = org.as_("ann")
    policy = {"script_id": "house/terms", "hook": "auction_input", "source": TERMS, "activate": True}
    assert ann.post("/api/v1/policies", policy).status == 201
    assert ann.post(f"/org-config/{org.org_id}/auction_input_dsl_id", {"value": "house/terms"}).status == 200
    org.start("ada", "bo", "cy")
    return org


def test_the_runner_up_does_what_the_winner_declines_and_all_of_it_can_be_read(market):
    bids = {"ada": {"price": 12, "eta_s": 3, "confidence": 0.9}, "bo": {"price": 8, "eta_s": 2, "confidence": 0.8}}
    entry = market.entry(do={"decline": ["bo"]}, task_job_submission_data={"bids": bids})
    assert market.api.submit(entry).status in (200, 202)
    market.all_ended(1)
    task = market.api.task(entry["task_id"])
    assert (task["status"], task["agent"], task["attempt"]) == ("completed", "ada", 2)
    (auction,) = market.api.get(f"/api/v1/tasks/{entry['task_id']}/auctions").json["items"]
    assert (auction["winner"], auction["price"], auction["pays"], auction["called"]) == ("bo", 8.0, 12.0, 3)
    assert [(bid["agent"], bid["place"]) for bid in auction["bids"]] == [("bo", 1), ("ada", 2)]
    assert [(award["agent"], award["attempt"], award["place"]) for award in auction["awards"]] == [("bo", 1, 1), ("ada", 2, 2)]
    assert auction["awards"][1]["promise"]["price"] == 12.0
    assert auction["details"]["passed"] == {"count": 1, "agents": ["cy"]}
    assert market.violations([entry["task_id"]]) == []


def test_when_nobody_bids_the_fallback_does_it(market):
    entry = market.entry()
    market.api.submit(entry)
    market.all_ended(1)
    task = market.api.task(entry["task_id"])
    assert (task["status"], task["agent"], task["assignment"]["strategy"]) == ("completed", "cy", "static")
    (auction,) = market.api.get(f"/api/v1/tasks/{entry['task_id']}/auctions").json["items"]
    assert (auction["outcome"], auction["bids_total"]) == ("no_bids", 0)
