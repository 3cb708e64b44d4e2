"""How auctions are shown: over HTTP to the org, in the admin to operators."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from apps.agents.market.records import Auction, Bid
from apps.core import ids
from apps.tasks.models import Assignment
from tests.factories import NOON, bearer, make_key, make_org, make_task

pytestmark = [pytest.mark.store, pytest.mark.django_db]
PATH = "/api/v1/tasks/t1/auctions"


@pytest.fixture
def held(redis):
    """Three auctions for t1 of acme, the last won by ada; one for the same task id of another org."""
    for org_id in ("acme", "other"):
        make_org(org_id)
        make_task("t1", org_id=org_id)
    made = []
    for org_id, outcome in (("acme", "no_bids"), ("acme", "too_few_bids"), ("acme", "awarded"), ("other", "awarded")):
        auction = Auction(
            id=ids.time_ordered(), org_id=org_id, task_key=f"{org_id}/t1", attempt=1, outcome=outcome, rule="first_price",
            winner="ada" if outcome == "awarded" else "", price=3.0, pays=3.0, called=2, bids=1, terms={}, at=NOON,
        )  # fmt: skip
        auction.save()
        made.append(auction)
    Bid.objects.create(
        id=f"{made[2].id}:000001", auction_id=made[2].id, org_id="acme", task_key="acme/t1", agent="ada", outcome="accepted", place=1,
        price=3.0, score=3.5, parts={"price": 3.0, "reputation": 0.5}, at=NOON,
    )  # fmt: skip
    Bid.objects.create(
        id=f"{made[2].id}:000002", auction_id=made[2].id, org_id="acme", task_key="acme/t1", agent="bo", outcome="ignored",
        why="malformed: not JSON", said="<script>", at=NOON,
    )  # fmt: skip
    Assignment.objects.create(
        id="acme/t1#1", task_key="acme/t1", org_id="acme", attempt=1, head_agent_subject_id="ada", strategy="auction", because="cheap",
        decision={"auction_id": made[2].id, "place": 1, "promise": {"price": 3.0}}, at=NOON,
    )  # fmt: skip
    return made


def get(client, path: str = PATH, org_id: str = "acme", status: int = 200):
    response = client.get(path, headers=bearer(make_key(org_id)))
    assert response.status_code == status, response.content
    return response.json()


def test_the_newest_comes_first_with_every_bid_and_every_award(client, held):
    items = get(client)["items"]
    assert [item["outcome"] for item in items] == ["awarded", "too_few_bids", "no_bids"]
    first = items[0]
    assert [(bid["agent"], bid["place"], bid["why"]) for bid in first["bids"]] == [("ada", 1, ""), ("bo", None, "malformed: not JSON")]
    assert first["bids"][0]["parts"] == {"price": 3.0, "reputation": 0.5}
    assert first["bids_total"] == 2
    assert first["awards"] == [{"attempt": 1, "agent": "ada", "place": 1, "because": "cheap", "promise": {"price": 3.0}}]


def test_pages_neither_skip_nor_repeat(client, held):
    seen, cursor = [], ""
    while True:
        page = get(client, f"{PATH}?limit=1" + (f"&cursor={cursor}" if cursor else ""))
        seen += [item["id"] for item in page["items"]]
        if not (cursor := page["next_cursor"]):
            break
    assert seen == [auction.id for auction in reversed(held[:3])]


@pytest.mark.parametrize("query", ["limit=0", "limit=51", "limit=x", "cursor=x", "cursor=", "other=1", "limit=1&limit=2"])
def test_a_wrong_query_is_a_400(client, held, query):
    get(client, f"{PATH}?{query}", status=400)


def test_another_orgs_auctions_are_not_there(client, held):
    assert [item["id"] for item in get(client, org_id="other")["items"]] == [held[3].id]
    make_task("theirs", org_id="other")
    missing, foreign = (get(client, f"/api/v1/tasks/{name}/auctions", status=404) for name in ("nothing", "theirs"))
    assert {**missing, "request_id": "", "instance": ""} == {**foreign, "request_id": "", "instance": ""}


def test_operators_see_them_in_the_admin_and_change_nothing(client, held):
    client.force_login(User.objects.create_superuser("boss", password="x"))
    for path in ("auction/", "auction/?outcome=awarded&org=acme", "auction/?q=acme/t1", "bid/", "bid/?outcome=ignored", "bid/?q=ada"):
        assert client.get(f"/admin/agents/{path}").status_code == 200, path
    page = client.get(f"/admin/agents/auction/{held[2].id}/change/")
    assert page.status_code == 200
    assert "malformed: not JSON" in page.text
    assert "<script>" not in page.text.partition("<main")[2].replace("<script src", "")
    assert client.get("/admin/agents/auction/add/").status_code == 403
    assert client.post(f"/admin/agents/auction/{held[2].id}/delete/", {"post": "yes"}).status_code == 403
    bid = Bid.objects.get(agent="bo")
    assert client.get(f"/admin/agents/bid/{bid.pk.replace(':', '_3A')}/change/").status_code == 200
