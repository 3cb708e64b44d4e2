"""Agents over HTTP: who may look, who may steer, how one is let in and put out."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import orjson
import pytest
from django.db import connection
from django.test import Client

from apps.agents.models import AgentRecord, Enrolment
from apps.agents.presence import PresenceBoard
from apps.core import clock
from apps.orgs.models import ApiKey, Change
from apps.roles.models import SubjectRole
from tests.factories import bearer, make_agent, make_key, make_org

pytestmark = pytest.mark.django_db

CARD = {
    "capabilities": ["python", "gpu"], "slots": 4, "max_payload_bytes": 5000, "job_kinds": ["ocr"],
    "costs": {"per_task": 0.5, "unit": "usd"}, "version": "1.2", "description": "reads\nscans",
}  # fmt: skip


class Api:
    def __init__(self, key: str) -> None:
        self.client, self.headers = Client(), bearer(key)

    def get(self, path: str):
        return self.client.get(f"/api/v1/{path}", headers=self.headers)

    def post(self, path: str, body=None):
        raw = b"" if body is None else orjson.dumps(body)
        return self.client.generic("POST", f"/api/v1/{path}", raw, "application/json", headers=self.headers)

    def delete(self, path: str):
        return self.client.delete(f"/api/v1/{path}", headers=self.headers)


@pytest.fixture
def olga(redis) -> Api:
    make_agent("acme", "ada", capabilities=("python", "sql"))
    make_agent("acme", "bo")
    return Api(make_key("acme", "operator", "olga"))


def invite(olga: Api, **wish) -> str:
    answer = olga.post("enrolments", {"subject_id": "new", "role_ids": ["scouts"], **wish})
    assert answer.status_code == 201, answer.content
    return answer.json()["token"]


# ---- looking ----


def test_the_list_shows_presence_load_card_breaker_and_reputation(olga):
    PresenceBoard().record("acme", "ada", slots=3, instance="i1", leaving=False, now=clock.now())
    page = olga.get("agents?limit=1").json()
    [ada] = page["items"]
    assert (ada["subject_id"], ada["state"], ada["presence"], ada["slots"], ada["load"]) == ("ada", "active", "present", 3, 0)
    assert [one["instance"] for one in ada["instances"]] == ["i1"]
    assert (ada["barred"], ada["breaker"]["state"], ada["capabilities"]) == (None, "closed", ["python", "sql"])
    assert (ada["reputation"]["mean"], ada["reputation"]["low"]) == (0.5, pytest.approx(0.05))
    [bo] = olga.get(f"agents?limit=1&cursor={page['next_cursor']}").json()["items"]
    assert (bo["subject_id"], bo["presence"], bo["last_seen_at"]) == ("bo", "unknown", None)
    for wrong in ("limit=0", "limit=x", "cursor=!", "what=1", "limit=1&limit=2"):
        assert olga.get(f"agents?{wrong}").status_code == 400


def test_an_agent_sees_itself_and_nobody_else(olga):
    ada = Api(make_key("acme", "agent", "ada"))
    assert ada.get("agents/ada").status_code == 200
    assert ada.get("agents/bo").status_code == 404
    assert ada.get("agents").status_code == ada.get("enrolments").status_code == 403
    assert ada.post("agents/bo/pause").status_code == 404


def test_another_orgs_agent_is_as_missing_as_one_that_never_was(olga):
    make_agent("umbra", "eve")
    token = invite(Api(make_key("umbra", "operator")), role_ids=[])
    theirs = token.split("_")[1]
    for call in (
        lambda name: olga.get(f"agents/{name}"),
        *(lambda name, verb=verb: olga.post(f"agents/{name}/{verb}") for verb in ("pause", "resume", "drain", "undrain", "revoke")),
    ):
        foreign, ghost = call("eve"), call("nobody")
        assert foreign.status_code == ghost.status_code == 404
        assert _told(foreign) == _told(ghost)
    for call in (olga.get, olga.delete):
        assert _told(call(f"enrolments/{theirs}")) == _told(call("enrolments/0123456789ab"))
    assert "eve" not in olga.get("agents").content.decode()
    assert Enrolment.objects.get().withdrawn_at is None


def _told(answer):
    return answer.status_code, {name: value for name, value in answer.json().items() if name != "request_id"}


@pytest.mark.parametrize("verb", ["pause", "drain", "revoke", "reset-breaker"])
def test_submitters_steer_nobody(olga, verb):
    assert Api(make_key("acme", "submitter")).post(f"agents/ada/{verb}").status_code == 403
    assert AgentRecord.objects.count() == 0


def test_people_are_no_agents(olga):
    make_agent("acme", "pia", subject_type="human")
    assert olga.get("agents/pia").status_code == 404
    answer = olga.post("enrolments", {"subject_id": "pia"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "subject_id")


# ---- pause, drain ----


def test_pausing_and_draining_are_recorded_and_taken_back(olga):
    paused = olga.post("agents/ada/pause", {"reason": "new disk"}).json()
    assert (paused["state"], paused["barred"], paused["reason"]) == ("paused", "paused: new disk", "new disk")
    assert olga.post("agents/ada/pause").status_code == 200
    conflict = olga.post("agents/ada/undrain")
    assert (conflict.status_code, conflict.json()["mode"]) == (409, "paused")
    assert olga.post("agents/ada/resume").json()["state"] == "active"
    assert olga.post("agents/ada/resume").status_code == 200
    assert olga.post("agents/ada/drain").json()["state"] == "draining"
    assert olga.post("agents/ada/undrain").json()["barred"] is None
    told = list(Change.objects.filter(kind="agent", key="ada").order_by("pk").values_list("new__mode", flat=True))
    assert told == ["paused", "active", "draining", "active"]
    assert "olga" in Change.objects.filter(kind="agent").first().by


def test_an_agent_takes_back_what_it_did_itself_and_not_what_an_operator_did(olga):
    ada = Api(make_key("acme", "agent", "ada"))
    assert ada.post("agents/ada/pause").status_code == 200
    assert ada.post("agents/ada/resume").json()["state"] == "active"
    olga.post("agents/ada/pause")
    assert ada.post("agents/ada/resume").status_code == 409
    assert ada.post("agents/ada/drain").status_code == 409
    assert ada.post("agents/ada/revoke").status_code == 403
    assert olga.get("agents/ada").json()["state"] == "paused"


# ---- enrolment ----


def test_a_token_becomes_a_key_with_roles_and_card_once(olga):
    token = invite(olga, name="the new one", key_lifetime_s=3600)
    assert Enrolment.objects.get().token_hash not in token
    answer = Api(token).post("enrolments/redeem", {"card": CARD})
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert (made["org_id"], made["subject_id"]) == ("acme", "new")
    assert made["nats_url"].startswith("nats://")
    key = ApiKey.objects.get(pk=made["key_id"])
    assert (key.role, key.subject_id, key.name) == ("agent", "new", "the new one")
    assert key.expires_at - key.created_at == timedelta(hours=1)
    assert SubjectRole.objects.filter(subject__subject_id="new", role__role_id="scouts").exists()
    seen = Api(made["api_key"]).get("agents/new").json()
    assert (seen["card"], seen["capabilities"]) == (CARD, ["python", "gpu"])
    assert Api(token).post("enrolments/redeem").status_code == 401
    assert olga.get("enrolments").json()["items"][0]["state"] == "redeemed"
    assert olga.delete(f"enrolments/{Enrolment.objects.get().pk}").status_code == 409


@pytest.mark.parametrize("spoil", ["expired", "withdrawn", "inactive org", "wrong secret", "unknown id", "cut", "an API key"])
def test_a_token_that_is_not_good_is_told_nothing_more(olga, spoil):
    token = invite(olga)
    row = Enrolment.objects.get()
    match spoil:
        case "expired":
            Enrolment.objects.update(expires_at=clock.now())
        case "withdrawn":
            assert olga.delete(f"enrolments/{row.pk}").json()["state"] == "withdrawn"
        case "inactive org":
            make_org("acme")
            type(row.org).objects.update(is_active=False)
        case "wrong secret":
            token = token[:-4] + "AAAA"
        case "unknown id":
            token = token.replace(row.pk, "0123456789ab")
        case "cut":
            token = token[:-1]
    if spoil == "an API key":
        assert olga.post("enrolments/redeem").status_code == 403
        return
    answer = Api(token).post("enrolments/redeem")
    assert (answer.status_code, answer.json()["detail"]) == (401, "A valid API key is required.")
    assert not ApiKey.objects.filter(role="agent").exists()


def test_a_token_opens_nothing_else_and_stands_in_no_log_url_or_row(olga, caplog):
    with caplog.at_level(logging.DEBUG):
        token = invite(olga)
        for path in ("agents", "tasks", "enrolments"):
            assert Api(token).get(path).status_code == 401
        Api(token).post("enrolments/redeem")
        Api(token).post("enrolments/redeem")
    secret = token.split("_", 2)[2]
    assert secret not in " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert secret not in str(list(Enrolment.objects.values())) + str(list(Change.objects.values()))


def test_a_bad_redemption_or_a_role_that_is_gone_leaves_the_token_good(olga):
    token = invite(olga)
    for body in (
        {"card": {"capabilities": "gpu"}}, {"card": {"slots": True}}, {"card": {"costs": {"per_task": -1}}}, {"role_ids": ["admin"]},
        {"card": {"owner": "me"}}, {"subject_id": "ada"}, {"card": None}, {"card": {"capabilities": ["a", 7]}},
    ):  # fmt: skip
        assert Api(token).post("enrolments/redeem", body).status_code == 422, body
    assert not ApiKey.objects.filter(role="agent").exists()
    SubjectRole.objects.all().delete()
    Enrolment.objects.update(role_ids=["vanished"])
    assert Api(token).post("enrolments/redeem").json()["code"] == "role_gone"
    Enrolment.objects.update(role_ids=[])
    assert Api(token).post("enrolments/redeem").status_code == 201


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({}, "subject_id"), ({"subject_id": ""}, "subject_id"), ({"subject_id": "a\nb"}, "subject_id"), ({"subject_id": 7}, "subject_id"),
        ({"subject_id": "é" * 90}, "subject_id"), ({"subject_id": "x", "role_ids": "scouts"}, "role_ids"),
        ({"subject_id": "x", "role_ids": ["ghosts"]}, "role_ids.0"), ({"subject_id": "x", "expires_in_s": 0}, "expires_in_s"),
        ({"subject_id": "x", "expires_in_s": 10**9}, "expires_in_s"), ({"subject_id": "x", "expires_in_s": True}, "expires_in_s"),
        ({"subject_id": "x", "key_lifetime_s": 1}, "key_lifetime_s"), ({"subject_id": "x", "token": "mine"}, "token"),
        ({"subject_id": "x", "org_id": "umbra"}, "org_id"), ({"subject_id": "x", "role": "org_admin"}, "role"),
        ({"subject_id": "x", "key_id": "k"}, "key_id"),
    ],
)  # fmt: skip
def test_what_an_invitation_may_not_say(olga, wish, field):
    answer = olga.post("enrolments", wish)
    assert answer.status_code == 422
    assert field in {problem["field"] for problem in answer.json()["errors"]}
    assert Enrolment.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_of_many_who_bring_the_same_token_one_gets_a_key(olga):
    token = invite(olga)

    def bring(_n: int) -> int:
        try:
            return Api(token).post("enrolments/redeem").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(bring, range(8)))
    assert sorted(answers) == [201] + [401] * 7
    assert ApiKey.objects.filter(role="agent").count() == 1


# ---- revocation ----


def test_a_revoked_agent_is_out_until_it_is_invited_again(olga, nats):
    ada = Api(make_key("acme", "agent", "ada"))
    token = invite(olga, subject_id="ada")
    gone = olga.post("agents/ada/revoke", {"reason": "compromised"}).json()
    assert (gone["state"], gone["barred"], gone["keys_revoked"], gone["told_nats"]) == ("revoked", "revoked: compromised", 1, True)
    assert ada.get("agents/ada").status_code == 401
    assert Api(token).post("enrolments/redeem").status_code == 401
    assert olga.post("agents/ada/resume").json()["code"] == "revoked"
    again = Api(invite(olga, subject_id="ada")).post("enrolments/redeem").json()
    assert Api(again["api_key"]).get("agents/ada").json()["state"] == "active"


def test_revoking_works_while_nats_is_away(olga, settings):
    settings.NATS_URL = "nats://127.0.0.1:1"
    make_key("acme", "agent", "ada")
    assert olga.post("agents/ada/revoke").json()["told_nats"] is False
    assert olga.get("agents/ada").json()["state"] == "revoked"
