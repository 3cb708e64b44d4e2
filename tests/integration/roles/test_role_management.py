"""Setting an org up over HTTP: roles, subjects and what they hold."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.test import Client

from apps.orgs.models import Change
from apps.roles.directory import RoleDirectory
from apps.roles.models import Role, Subject, SubjectRole
from tests.factories import bearer, make_key

pytestmark = pytest.mark.django_db

SCOUT = {"role_type": "SCOUTING", "group_ids": ["g1"], "job_space_id": "space-001"}


@pytest.fixture
def admin():
    return bearer(make_key("acme", "org_admin"))


def put(client, path, body, headers):
    return client.put(path, data=body, content_type="application/json", headers=headers)


def test_a_role_is_made_read_replaced_and_deleted(client, admin):
    path = "/api/v1/roles/scout-1"
    made = put(client, path, SCOUT, admin)
    assert (made.status_code, made.json()) == (201, {"role_id": "scout-1", **SCOUT})
    assert client.get(path, headers=admin).json() == made.json()
    again = put(client, path, {**made.json(), "group_ids": ["g3", "g2", "g2"]}, admin)
    assert (again.status_code, again.json()["group_ids"]) == (200, ["g2", "g3"])
    assert client.delete(path, headers=admin).status_code == 204
    assert client.delete(path, headers=admin).status_code == client.get(path, headers=admin).status_code == 404
    assert list(Change.objects.filter(kind="role").order_by("id").values_list("old", "new")) == [
        (None, made.json()), (made.json(), again.json()), (again.json(), None),
    ]  # fmt: skip


def test_a_subject_with_its_roles_becomes_a_candidate_and_stops_being_one(client, admin):
    put(client, "/api/v1/roles/scout", {"role_type": "SCOUTING"}, admin)
    path = "/api/v1/subjects/acme:ada lovelace"
    made = put(client, path, {"capabilities": ["python"], "role_ids": ["scout"]}, admin)
    assert made.status_code == 201
    assert made.json() == {
        "subject_id": "acme:ada lovelace", "subject_type": "agent", "name": "", "capabilities": ["python"], "is_active": True,
        "role_ids": ["scout"], "job_spaces": {},
    }  # fmt: skip
    (candidate,) = RoleDirectory("acme").candidates("SCOUTING", "anywhere")
    assert (candidate.subject_id, candidate.role_ids, candidate.capabilities) == ("acme:ada lovelace", ("scout",), ("python",))
    assert put(client, path, {"job_spaces": {"north": ["scout"]}}, admin).json()["job_spaces"] == {"north": ["scout"]}
    assert [len(RoleDirectory("acme").candidates("SCOUTING", space)) for space in ("north", "south", "")] == [1, 0, 0]
    assert put(client, path, client.get(path, headers=admin).json(), admin).status_code == 200
    assert client.delete("/api/v1/roles/scout", headers=admin).status_code == 204
    assert client.get(path, headers=admin).json()["job_spaces"] == {}
    assert client.delete(path, headers=admin).status_code == 204 and not SubjectRole.objects.exists()


def test_a_role_that_does_not_exist_cannot_be_held(client, admin):
    put(client, "/api/v1/roles/scout-1", SCOUT, admin)
    put(client, "/api/v1/roles/theirs", SCOUT, bearer(make_key("bolt", "org_admin")))
    response = put(client, "/api/v1/subjects/ada", {"role_ids": ["scuot-1", "theirs"]}, admin)
    assert response.status_code == 422
    assert [problem["message"] for problem in response.json()["errors"]] == [
        "there is no role 'scuot-1'; did you mean 'scout-1'?", "there is no role 'theirs'",
    ]  # fmt: skip
    assert not Subject.objects.exists()


@pytest.mark.parametrize("kind", ["roles", "subjects"])
def test_another_org_s_answer_exactly_like_missing_ones_and_stay_untouched(client, admin, kind):
    theirs = bearer(make_key("bolt", "org_admin"))
    body = SCOUT if kind == "roles" else {}
    put(client, f"/api/v1/{kind}/x", body, theirs)
    for method in ("get", "delete"):
        ask, headers = getattr(client, method), {**admin, "X-Request-Id": "r"}
        foreign, missing = (ask(f"/api/v1/{kind}/{name}", headers=headers) for name in ("x", "y"))
        assert foreign.status_code == missing.status_code == 404 and foreign.content == missing.content
    assert put(client, f"/api/v1/{kind}/x", body, admin).status_code == 201  # the same id, in two orgs
    assert client.delete(f"/api/v1/{kind}/x", headers=admin).status_code == 204
    assert client.get(f"/api/v1/{kind}/x", headers=theirs).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/roles/x", "/api/v1/subjects/x"])
def test_submitters_may_look_and_only_org_admins_change(client, admin, path):
    put(client, path, SCOUT if "roles" in path else {}, admin)
    for role, look, change in [("submitter", 200, 403), ("operator", 200, 403), ("agent", 403, 403), ("org_admin", 200, 200)]:
        key = bearer(make_key("acme", role, subject_id="x"))
        assert client.get(path, headers=key).status_code == look
        assert put(client, path, SCOUT if "roles" in path else {}, key).status_code == change
    assert client.delete(path, headers=bearer(make_key("acme", "operator"))).status_code == 403
    for method in ("get", "put", "delete", "post"):
        assert getattr(client, method)(path).status_code == 401
    assert client.post(path, headers=admin).status_code == client.patch(path, headers=admin).status_code == 405


def test_lists_come_in_pages(client, admin, monkeypatch):
    monkeypatch.setattr("apps.roles.api.PAGE", 2)
    for name in "abcde":
        put(client, f"/api/v1/roles/{name}", SCOUT, admin)
        put(client, f"/api/v1/subjects/{name}", {"role_ids": [name]}, admin)
    put(client, "/api/v1/roles/zz", SCOUT, bearer(make_key("bolt", "org_admin")))
    for kind, field in (("roles", "role_id"), ("subjects", "subject_id")):
        seen, after = [], ""
        while after is not None:
            page = client.get(f"/api/v1/{kind}?after={after}", headers=admin).json()
            seen += [row[field] for row in page[kind]]
            after = page["next"]
        assert seen == list("abcde")
    assert client.get("/api/v1/roles?after=%00", headers=admin).status_code == 400


BAD_IDS = ["a%0Ab", "%20a", "a%20", "x" * 181, "%E2%80%AEa", "e%CC%81", "%7F"]
BAD_ROLES = [
    {}, [], {"role_type": ""}, {"role_type": None}, {"role_type": 1}, {"role_type": "x" * 65},
    {**SCOUT, "group_ids": "g"},
    {**SCOUT, "group_ids": [1]}, {**SCOUT, "group_ids": [""]}, {**SCOUT, "group_ids": ["g"] * 1001}, {**SCOUT, "job_space_id": None},
    {**SCOUT, "job_space_id": "a\n"},
    {**SCOUT, "org_id": "bolt"}, {**SCOUT, "role_id": "other"}, {**SCOUT, "id": 1}, {"role_type": "x\x00"},
]  # fmt: skip
BAD_SUBJECTS = [
    [], {"subject_type": "robot"}, {"subject_type": None}, {"subject_type": ["agent"]}, {"name": 1}, {"name": "x" * 201}, {"name": "a\nb"},
    {"capabilities": "python"}, {"capabilities": [["x"]]}, {"capabilities": ["x" * 65]}, {"is_active": 1}, {"is_active": "true"},
    {"is_active": None}, {"role_ids": None}, {"role_ids": {}}, {"job_spaces": []}, {"job_spaces": {"": []}}, {"job_spaces": {"a": "b"}},
    {"job_spaces": {"a\n": []}}, {"org_id": "bolt"}, {"reputation": 9}, {"job_spaces": {str(n): ["r"] * 1 for n in range(1001)}},
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), [("roles/r", body) for body in BAD_ROLES] + [("subjects/s", body) for body in BAD_SUBJECTS])
def test_bad_documents_are_refused_with_the_field_and_nothing_is_stored(client, admin, path, body):
    response = put(client, f"/api/v1/{path}", body, admin)
    assert response.status_code == 422 and response.json()["errors"]
    assert not Role.objects.exists() and not Subject.objects.exists() and not Change.objects.exclude(kind="api_key").exists()


@pytest.mark.parametrize("bad", BAD_IDS)
@pytest.mark.parametrize("kind", ["roles", "subjects"])
def test_ids_that_would_deceive_are_refused(client, admin, kind, bad):
    assert put(client, f"/api/v1/{kind}/{bad}", SCOUT if kind == "roles" else {}, admin).status_code == 422
    assert client.get(f"/api/v1/{kind}/{bad}", headers=admin).status_code == 404
    assert client.delete(f"/api/v1/{kind}/{bad}", headers=admin).status_code == 404


@pytest.mark.parametrize("good", ["*", ">", ".", "..a", "💡", "日本", "a:b", "Case", "x" * 180, "a'b", "a%25b"])
def test_other_ids_are_just_ids(client, admin, good):
    assert put(client, f"/api/v1/roles/{good}", SCOUT, admin).status_code == 201
    assert put(client, f"/api/v1/subjects/{good}", {}, admin).status_code == 201
    assert client.get(f"/api/v1/subjects/{good}", headers=admin).status_code == 200


def test_an_id_too_long_for_the_wire_is_refused(client, admin):
    response = put(client, f"/api/v1/subjects/{'💡' * 180}", {}, admin)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (422, "too_long")


@pytest.mark.django_db(transaction=True)
def test_many_at_once_make_one_subject_that_holds_what_one_of_them_said(admin):
    for name in "abcdefgh":
        put(Client(), f"/api/v1/roles/{name}", SCOUT, admin)
    statuses, start = [], threading.Barrier(8)

    def write(name):
        try:
            start.wait()
            statuses.append(put(Client(raise_request_exception=False), "/api/v1/subjects/ada", {"role_ids": [name]}, admin).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 7 + [201]
    assert Subject.objects.count() == SubjectRole.objects.count() == 1
