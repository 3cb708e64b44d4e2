"""Endpoints over HTTP: made, changed, rotated, asked; secrets shown once; nobody reaches another org's, or the inside."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from apps.core import clock
from apps.orgs.models import Change
from apps.webhooks.book import ENDPOINTS_MAX
from apps.webhooks.derive import Deriver
from apps.webhooks.models import Delivery, Endpoint
from tests.factories import NOON, bearer, make_key, make_org, make_task
from tests.integration.webhooks.conftest import serve

pytestmark = [pytest.mark.django_db, pytest.mark.store]
PATH = "/api/v1/webhooks"


@pytest.fixture
def admin(redis):
    return bearer(make_key("acme", "org_admin"))


def send(client, method: str, path: str, body, headers):
    return client.generic(method, path, json.dumps(body) if body is not None else b"", "application/json", headers=headers)


def make(client, admin, **wish):
    return send(client, "POST", PATH, {"url": "https://hooks.example.com/x", **wish}, admin)


def test_an_endpoint_is_made_read_changed_and_deleted_and_its_secret_is_shown_once(client, admin):
    made = make(client, admin, events=["task.completed"], description="to the ERP")
    assert made.status_code == 201 and made.json()["secret"].startswith("whsec_")
    path = f"{PATH}/{made.json()['endpoint_id']}"
    assert made["Location"] == path
    read = client.get(path, headers=admin)
    assert read.json() == {name: value for name, value in made.json().items() if name != "secret"}
    changed = send(client, "PATCH", path, {"enabled": False}, admin)
    assert changed.json()["enabled"] is False and changed.json()["disabled_because"].startswith("by key ")
    assert [item["endpoint_id"] for item in client.get(PATH, headers=admin).json()["items"]] == [made.json()["endpoint_id"]]
    assert client.delete(path, headers=admin).status_code == 204 and client.get(path, headers=admin).status_code == 404
    told = list(Change.objects.filter(kind="webhook").order_by("id").values_list("old", "new"))
    assert told[0][1]["description"] == "to the ERP" and told[1][1]["enabled"] is False and told[2][1] is None
    assert made.json()["secret"] not in json.dumps(told)


def test_the_secret_is_nowhere_in_the_database(client, admin):
    secret = make(client, admin).json()["secret"]
    assert secret.removeprefix("whsec_") not in str(Endpoint.objects.values())


def test_a_rotation_shows_a_new_secret_and_says_how_long_the_old_one_lives(client, admin):
    made = make(client, admin).json()
    path = f"{PATH}/{made['endpoint_id']}/rotate-secret"
    rotated = send(client, "POST", path, {"overlap_s": 60}, admin).json()
    assert rotated["secret"] != made["secret"] and rotated["old_secret_until"]
    assert send(client, "POST", path, {"overlap_s": 0}, admin).json()["old_secret_until"] is None
    assert send(client, "POST", path, None, admin).json()["old_secret_until"]
    for wrong in ({"overlap_s": -1}, {"overlap_s": True}, {"overlap_s": 1e9}, {"overlap": 1}, [], {"overlap_s": "1"}):
        assert send(client, "POST", path, wrong, admin).status_code == 422


URLS = [
    "http://127.0.0.1/", "http://localhost:8000/", "http://[::1]/", "http://0/", "http://2130706433/", "http://0x7f.1/", "http://10.0.0.1/",
    "http://169.254.169.254/latest/meta-data/", "http://[::ffff:127.0.0.1]/", "http://100.64.0.1/", "http://db.local/",
    "https://user:pw@example.com/", "https://example.com/#x", "https://example.com\\@127.0.0.1/", "ftp://example.com/", "file:///etc/passwd",
    "https://example.com:6379/", "https://exämple.com/", "", "x", None, 7, ["https://example.com"], "https://example.com/" + "x" * 3000,
]  # fmt: skip


def test_an_address_on_the_inside_is_refused_and_nothing_is_stored(client, admin):
    for url in URLS:
        answer = make(client, admin, url=url)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "url"), url
    path = f"{PATH}/{make(client, admin).json()['endpoint_id']}"
    assert all(send(client, "PATCH", path, {"url": url}, admin).status_code == 422 for url in URLS)
    assert Endpoint.objects.count() == 1


def test_every_problem_is_named(client, admin):
    answer = send(
        client, "POST", PATH, {"events": ["task.completed", "task.eaten", {}], "description": "a\nb", "enabled": 1, "secret": "mine"}, admin
    )
    assert answer.status_code == 422
    assert {problem["field"] for problem in answer.json()["errors"]} == {"url", "events.1", "events.2", "description", "enabled", "secret"}
    for events in ("*", ["*", "task.queued"], ["task.queued"] * 2, None):
        assert make(client, admin, events=events).status_code == 422


def test_an_org_has_room_for_some_endpoints(client, admin):
    assert {make(client, admin).status_code for _ in range(ENDPOINTS_MAX)} == {201}
    assert make(client, admin).status_code == 409


def test_another_org_finds_nothing_and_roles_do_what_they_may(client, admin):
    make_org("other")
    endpoint_id = make(client, admin).json()["endpoint_id"]
    ping = send(client, "POST", f"{PATH}/{endpoint_id}/ping", None, admin).json()["delivery_id"]
    paths = [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate-secret"), ("POST", "/ping"), ("GET", "/deliveries"),
             ("GET", f"/deliveries/{ping}"), ("POST", f"/deliveries/{ping}/replay"), ("POST", "/replay")]  # fmt: skip
    stranger = bearer(make_key("other", "org_admin"))
    window = {"since": clock.iso(clock.now())}
    for method, rest in paths:
        body = {} if method == "PATCH" else window if rest == "/replay" else None
        theirs = send(client, method, f"{PATH}/{endpoint_id}{rest}", body, stranger)
        nobodys = send(client, method, f"{PATH}/wh_0000000000000000{rest}", body, admin)
        assert (theirs.status_code, nobodys.status_code) == (404, 404), rest
        assert {**theirs.json(), "request_id": ""} == {**nobodys.json(), "request_id": ""}
    operator, submitter = bearer(make_key("acme", "operator")), bearer(make_key("acme"))
    assert client.get(PATH, headers=operator).status_code == 200 and client.get(PATH, headers=submitter).status_code == 403
    assert make(client, operator).status_code == 403 and client.delete(f"{PATH}/{endpoint_id}", headers=operator).status_code == 403
    assert send(client, "POST", f"{PATH}/{endpoint_id}/ping", None, operator).status_code == 202


def test_a_ping_arrives_and_its_log_tells_of_it(client, admin, endpoint, receiver):
    row, _ = endpoint()
    delivery_id = send(client, "POST", f"{PATH}/{row.pk}/ping", None, admin).json()["delivery_id"]
    receiver.answer = lambda _got: (200, {}, b"pong")
    serve(row, now=clock.now())
    whole = client.get(f"{PATH}/{row.pk}/deliveries/{delivery_id}", headers=admin).json()
    assert (whole["state"], whole["event"], whole["task_id"]) == ("delivered", "webhook.ping", None)
    assert whole["attempts"][0]["excerpt"] == "pong"
    assert whole["payload"]["data"]["endpoint_id"] == row.pk and receiver.got[0].headers["webhook-id"] == delivery_id
    again = send(client, "POST", f"{PATH}/{row.pk}/deliveries/{delivery_id}/replay", None, admin)
    assert again.status_code == 202 and again.json()["state"] == "pending"


def test_the_log_has_pages_and_filters(client, admin, endpoint, receiver):
    row, _ = endpoint(events=["task.queued"])
    for number in range(5):
        make_task(f"t{number}")
    Deriver().run(now=NOON)
    Delivery.objects.filter(task_key="acme/t1").update(state="failed")
    path = f"{PATH}/{row.pk}/deliveries"
    first = client.get(f"{path}?limit=2", headers=admin).json()
    second = client.get(f"{path}?limit=9&cursor={first['next_cursor']}", headers=admin).json()
    assert [item["task_id"] for item in first["items"] + second["items"]] == ["t4", "t3", "t2", "t1", "t0"]
    assert second["next_cursor"] is None
    assert [item["task_id"] for item in client.get(f"{path}?state=failed", headers=admin).json()["items"]] == ["t1"]
    assert client.get(f"{path}?event=webhook.ping", headers=admin).json()["items"] == []
    for wrong in ("state=odd", "event=x", "limit=0", "cursor=x", "limit=x", "order=1"):
        assert client.get(f"{path}?{wrong}", headers=admin).status_code == 400


def test_replays_ask_for_a_time_that_can_be(client, admin, endpoint):
    row, _ = endpoint()
    path = f"{PATH}/{row.pk}/replay"
    now = clock.now()
    for since in (None, 5, "yesterday", "2026-11-22T12:00:00", clock.iso(now + timedelta(hours=1)), clock.iso(now - timedelta(days=40))):
        assert send(client, "POST", path, {"since": since}, admin).status_code == 422
    assert send(client, "POST", path, {}, admin).status_code == 422
    assert send(client, "POST", path, {"since": clock.iso(now), "missed": 1}, admin).status_code == 422
    assert send(client, "POST", path, {"since": clock.iso(now), "missed": True}, admin).json() == {"replayed": 0}
    send(client, "PATCH", f"{PATH}/{row.pk}", {"enabled": False}, admin)
    assert send(client, "POST", path, {"since": clock.iso(now)}, admin).status_code == 409
    assert send(client, "POST", f"{PATH}/{row.pk}/ping", None, admin).status_code == 409
