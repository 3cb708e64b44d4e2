"""The audit trail: what people do is in it, nobody can change it, and it can be taken elsewhere."""

from __future__ import annotations

import csv
import io
import json

import pytest
from django.db import DatabaseError, connection, transaction

from apps.orgs import audit, audit_guard
from apps.orgs.models import Change
from tests.factories import NOON, bearer, make_key, make_org, make_task

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin():
    return bearer(make_key("acme", "org_admin"))


def note(key: str, *, org_id: str = "acme", kind: str = "config", old=None, new=None, by: str = "admin eve", at=NOON) -> None:
    audit.record(org_id=org_id, kind=kind, key=key, old=old, new=new, by=by, at=at)


def exported(response) -> str:
    return b"".join(response.streaming_content).decode()


def test_a_change_over_http_says_who_what_when_and_in_which_request(client, redis, admin):
    headers = {**admin, "X-Request-Id": "req-7"}
    client.post("/org-config/acme/max_attempts", {"value": 3}, "application/json", headers=headers)
    (line,) = client.get("/api/v1/audit?kind=config", headers=admin).json()["items"]
    assert (line["key"], line["old"], line["new"], line["request_id"]) == ("max_attempts", None, 3, "req-7")
    assert line["by"].startswith("key ") and line["at"].endswith("Z")


def test_what_an_operator_does_to_a_task_is_in_it(client, redis):
    make_task("t1", status="awaiting_approval")
    make_task("t2", status="awaiting_approval")
    operator = bearer(make_key("acme", "operator"))
    client.post("/api/v1/tasks/t1/approve", {"reason": "fine"}, "application/json", headers=operator)
    client.post("/api/v1/tasks/t2/cancel", {"reason": "no"}, "application/json", headers=operator)
    told = {line.key: (line.old, line.new) for line in Change.objects.filter(kind="task")}
    assert told == {
        "t1": ({"status": "awaiting_approval"}, {"status": "queued", "reason": "fine"}),
        "t2": ({"status": "awaiting_approval"}, {"status": "cancelled", "reason": "no"}),
    }


def test_pages_neither_skip_nor_repeat_while_lines_come_in(client, admin):
    for number in range(7):
        note(f"k{number}", kind="role")
    first = client.get("/api/v1/audit?kind=role&limit=3", headers=admin).json()
    note("later", kind="role")
    rest = client.get(f"/api/v1/audit?kind=role&limit=200&cursor={first['next_cursor']}", headers=admin).json()
    assert [line["key"] for line in first["items"] + rest["items"]] == [f"k{number}" for number in reversed(range(7))]
    assert rest["next_cursor"] is None


def test_filters_narrow_and_wrong_ones_are_named(client, admin):
    note("a", kind="role", by="admin eve")
    note("b", kind="webhook", by="admin mallory")
    assert [line["key"] for line in client.get("/api/v1/audit?by=admin%20mallory", headers=admin).json()["items"]] == ["b"]
    assert [line["key"] for line in client.get("/api/v1/audit?kind=role,webhook&key=a", headers=admin).json()["items"]] == ["a"]
    assert client.get("/api/v1/audit?kind=role&until=2026-11-22T12:00:00Z", headers=admin).json()["items"] == []
    assert len(client.get("/api/v1/audit?kind=role&since=2026-11-22T12:00:00Z", headers=admin).json()["items"]) == 1
    wrong = client.get("/api/v1/audit?kind=rolls&since=yesterday&limit=0&cursor=x&order_by=at&key=", headers=admin)
    assert wrong.status_code == 400
    assert {problem["field"] for problem in wrong.json()["errors"]} == {"kind", "since", "limit", "cursor", "order_by", "key"}


def test_another_orgs_lines_are_not_there_and_only_admins_look(client, admin):
    make_org("other")
    note("theirs", org_id="other")
    assert "theirs" not in client.get("/api/v1/audit", headers=admin).content.decode()
    assert "theirs" not in exported(client.get("/api/v1/audit/export", headers=admin))
    for role in ("submitter", "operator", "agent"):
        key = bearer(make_key("acme", role, subject_id="ada"))
        assert client.get("/api/v1/audit", headers=key).status_code == client.get("/api/v1/audit/export", headers=key).status_code == 403


def test_the_export_is_ndjson_or_csv_and_no_cell_is_a_formula(client, admin):
    note("=HYPERLINK(1)", kind="role", by="@evil", new="+1", old=-1)
    note("plain", kind="role", by="a\r\nb\x1b[31m", new={"a": [1, 2]})
    lines = [json.loads(line) for line in exported(client.get("/api/v1/audit/export?kind=role", headers=admin)).splitlines()]
    assert [line["key"] for line in lines] == ["plain", "=HYPERLINK(1)"] and lines[0]["new"] == {"a": [1, 2]}
    response = client.get("/api/v1/audit/export?format=csv&kind=role", headers=admin)
    assert response["Content-Type"] == "text/csv; charset=utf-8" and "audit.csv" in response["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(exported(response))))
    assert [row["key"] for row in rows] == ["plain", "'=HYPERLINK(1)"]
    assert (rows[1]["by"], rows[1]["new"], rows[1]["old"]) == ("'@evil", "'+1", "'-1")
    assert rows[0]["by"] == "a\\x0d\\x0ab\\x1b[31m" and json.loads(rows[0]["new"]) == {"a": [1, 2]}
    assert client.get("/api/v1/audit/export?format=xlsx", headers=admin).status_code == 400


def test_secrets_are_masked_whoever_records_them():
    told = {"url": "https://x", "secret": "whsec_canary", "inner": [{"Password": "canary"}], "tokens": {"a": "canary"}, "token": None}
    note("hook", new=told)
    (line,) = Change.objects.filter(key="hook")
    assert line.new == {**told, "secret": "(secret)", "inner": [{"Password": "(secret)"}], "tokens": "(secret)"}


def test_a_huge_value_is_kept_as_its_beginning():
    note("big", new={"text": "x" * 100_000})
    kept = Change.objects.get(key="big").new
    assert kept["bytes"] > 100_000 and len(kept["cut"]) == audit.SIZE_MAX


@pytest.mark.django_db(transaction=True)
def test_the_database_refuses_to_change_or_delete_a_line():
    if connection.vendor not in ("sqlite", "postgresql"):
        pytest.skip("no triggers there")
    note("kept")
    audit_guard.install()
    audit_guard.install()  # twice is once
    try:
        for statement in ("UPDATE orgs_change SET by = 'nobody'", "DELETE FROM orgs_change"):
            with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(statement)
        note("more can be added")
        assert list(Change.objects.order_by("id").values_list("key", "by")) == [("kept", "admin eve"), ("more can be added", "admin eve")]
    finally:
        audit_guard.remove()
    row = Change.objects.first()
    for change in (lambda: Change.objects.update(by="x"), Change.objects.all().delete, row.delete, row.save):
        with pytest.raises(TypeError, match="append-only"):
            change()
