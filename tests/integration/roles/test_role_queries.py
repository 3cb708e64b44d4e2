"""POST /role-group and POST /subject-roles: the spec's answers, MongoDB's meaning, and one org at a time."""

from __future__ import annotations

import itertools

import pytest

from apps.roles import queries
from apps.roles.models import Role, RoleGroup, Subject, SubjectRole
from tests.factories import bearer, make_key, make_org

pytestmark = pytest.mark.django_db

ROLES = [
    ("scout-1", "SCOUTING", ["group-a"], "space-001"),
    ("scout-2", "SCOUTING", ["group-a", "group-b"], ""),
    ("writer", "WRITING", [], "space-001"),
]
HELD = [
    ("agent-a", "agent", "space-001", ["scout-1"]),
    ("agent-b", "agent", "space-001", ["scout-1", "scout-2"]),
    ("agent-b", "agent", "", ["writer"]),
    ("hanna", "human", "", ["scout-2"]),
]


def furnish(org_id: str) -> None:
    org = make_org(org_id)
    roles = {}
    for role_id, role_type, groups, space in ROLES:
        roles[role_id] = Role.objects.create(org=org, role_id=role_id, role_type=role_type, job_space_id=space)
        RoleGroup.objects.bulk_create(RoleGroup(role=roles[role_id], group_id=group) for group in groups)
    for subject_id, kind, space, role_ids in HELD:
        subject, _ = Subject.objects.get_or_create(org=org, subject_id=subject_id, defaults={"subject_type": kind})
        SubjectRole.objects.bulk_create(SubjectRole(subject=subject, role=roles[role_id], job_space_id=space) for role_id in role_ids)


@pytest.fixture
def ask(client):
    for org_id in ("acme", "bolt"):
        furnish(org_id)
    key = bearer(make_key("acme"))

    def ask(path, filter, status=200):
        response = client.post(path, data=filter, content_type="application/json", headers=key)
        assert response.status_code == status, response.content
        return response.json()

    return ask


def test_the_spec_s_role_group_query(ask):
    assert ask("/role-group", {"role_type": "SCOUTING", "job_space_id": "space-001"}) == {
        "success": True,
        "data": [{"role_id": "scout-1", "role_type": "SCOUTING", "group_ids": ["group-a"], "job_space_id": "space-001"}],
    }


def test_the_spec_s_subject_roles_query(ask):
    assert ask("/subject-roles", {"role_ids": {"$in": ["scout-1", "scout-2"]}, "job_space_id": "space-001"}) == {
        "success": True,
        "data": [
            {"subject_id": "agent-a", "role_ids": ["scout-1"], "subject_type": "agent", "job_space_id": "space-001"},
            {"subject_id": "agent-b", "role_ids": ["scout-1", "scout-2"], "subject_type": "agent", "job_space_id": "space-001"},
        ],
    }


def test_an_empty_filter_finds_all_of_the_own_org_and_nothing_of_another(ask):
    assert len(ask("/role-group", {})["data"]) == len(ROLES)
    assert len(ask("/subject-roles", {})["data"]) == len(HELD)
    for evasion in ({"$or": [{}, {"role_id": "x"}]}, {"role_id": {"$nin": []}}, {"$or": [{"role_id": {"$exists": True}}]}):
        assert len(ask("/role-group", evasion)["data"]) == len(ROLES)


def test_inactive_subjects_are_left_out(ask):
    Subject.objects.filter(org_id="acme", subject_id="agent-a").update(is_active=False)
    assert [row["subject_id"] for row in ask("/subject-roles", {"role_ids": "scout-1"})["data"]] == ["agent-b"]


def test_more_than_can_be_answered_is_said_and_not_cut(ask, monkeypatch):
    monkeypatch.setattr(queries, "MAX_DOCUMENTS", 2)
    assert "narrow the filter" in ask("/role-group", {}, 400)["errors"][0]["message"]
    assert len(ask("/role-group", {"role_type": "SCOUTING"})["data"]) == 2
    monkeypatch.setattr(queries, "MAX_ROWS", 2)
    assert "looked at" in ask("/role-group", {"role_id": {"$regex": "x"}}, 400)["errors"][0]["message"]


def test_a_query_costs_the_same_however_much_it_finds(ask, django_assert_max_num_queries):
    with django_assert_max_num_queries(3):  # the key, the roles, their groups
        ask("/role-group", {})
    with django_assert_max_num_queries(2):
        ask("/subject-roles", {})


def test_metadata_is_part_of_the_document_when_there_is_any_and_can_be_filtered_by(ask):
    Role.objects.filter(org_id="acme", role_id="writer").update(metadata={"team": {"name": "blue", "size": 3}, "tags": ["a", "b"]})
    Subject.objects.filter(org_id="acme", subject_id="hanna").update(metadata={"shifts": [{"day": 1, "hours": 4}, {"day": 2, "hours": 8}]})
    found = ask("/role-group", {"metadata.team.name": "blue", "metadata.tags": {"$all": ["b", "a"]}})["data"]
    assert [role["role_id"] for role in found] == ["writer"] and found[0]["metadata"]["team"]["size"] == 3
    assert len(ask("/role-group", {"metadata.team.size": {"$not": {"$gt": 2}}})["data"]) == 2
    assert len(ask("/role-group", {"metadata": None})["data"]) == 2
    for wanted, count in (({"day": 1, "hours": {"$lt": 5}}, 1), ({"day": 1, "hours": {"$gt": 5}}, 0)):
        assert len(ask("/subject-roles", {"metadata.shifts": {"$elemMatch": wanted}})["data"]) == count


def test_what_a_filter_plainly_demands_is_asked_of_the_database(ask, django_assert_num_queries):
    with django_assert_num_queries(2) as queries:
        ask("/subject-roles", {"role_ids": {"$in": ["scout-1"]}, "$and": [{"job_space_id": "space-001"}], "subject_id": {"$regex": "^a"}})
    assert "space-001" in queries[-1]["sql"] and "scout-1" in queries[-1]["sql"]


# ---- every operator, on lists and words, through the door --------------------------------------------------------

SAID = [
    ("/role-group", {"group_ids": "group-a"}, ["scout-1", "scout-2"]),
    ("/role-group", {"group_ids": {"$eq": ["group-a"]}}, ["scout-1"]),
    ("/role-group", {"group_ids": {"$ne": "group-b"}}, ["scout-1", "writer"]),
    ("/role-group", {"role_id": {"$in": ["writer", None]}}, ["writer"]),
    ("/role-group", {"group_ids": {"$nin": ["group-a"]}}, ["writer"]),
    ("/role-group", {"role_id": {"$gt": "scout-1", "$lt": "writer"}}, ["scout-2"]),
    ("/role-group", {"role_id": {"$gte": "scout-2", "$lte": "scout-2"}}, ["scout-2"]),
    ("/role-group", {"$and": [{"role_type": "SCOUTING"}, {"job_space_id": ""}]}, ["scout-2"]),
    ("/role-group", {"$or": [{"role_type": "WRITING"}, {"job_space_id": ""}]}, ["scout-2", "writer"]),
    ("/role-group", {"$nor": [{"role_type": "WRITING"}, {"job_space_id": ""}]}, ["scout-1"]),
    ("/role-group", {"group_ids": {"$not": {"$size": 1}}}, ["scout-2", "writer"]),
    ("/role-group", {"role_id": {"$not": {"$regex": "^scout"}}}, ["writer"]),
    ("/role-group", {"metadata": {"$exists": False}}, ["scout-1", "scout-2", "writer"]),
    ("/role-group", {"role_id": {"$regex": "(?i)OUT-[12]$"}}, ["scout-1", "scout-2"]),
    ("/role-group", {"group_ids": {"$all": ["group-a", "group-b"]}}, ["scout-2"]),
    ("/role-group", {"group_ids": {"$all": []}}, []),
    ("/role-group", {"group_ids": {"$elemMatch": {"$gt": "group-a"}}}, ["scout-2"]),
    ("/role-group", {"group_ids": {"$size": 0}}, ["writer"]),
    ("/role-group", {"group_ids.1": "group-b"}, ["scout-2"]),
    ("/subject-roles", {"role_ids": {"$all": ["scout-2", "scout-1"]}}, ["agent-b"]),
    ("/subject-roles", {"subject_type": {"$ne": "agent"}}, ["hanna"]),
    ("/subject-roles", {"role_ids": {"$size": 1}, "subject_type": "agent"}, ["agent-a", "agent-b"]),
]


@pytest.mark.parametrize(("path", "filter", "expected"), SAID, ids=[str(case[1]) for case in SAID])
def test_each_operator_finds_what_it_says(ask, path, filter, expected):
    found = ask(path, filter)["data"]
    assert [document["role_id" if path == "/role-group" else "subject_id"] for document in found] == expected


# ---- bad input ---------------------------------------------------------------------------------------------------

BAD = [
    (b"", 400), (b"{", 400), (b"[]", 400), (b"null", 400), (b'"x"', 400),
    (b'{"role_id":NaN}', 400), (b'{"role_id":"a","role_id":"b"}', 400),
    (b"\xef\xbb\xbf{}", 400), (b'{"role_id":"\xff"}', 400), (b'{"role_id":"\\ud800"}', 400), (b'{"role_id":"\\u0000"}', 400),
    (b'{"role_id":9223372036854775808}', 400), (b'{"role_id":1e400}', 400), (b'{"role_id":-0}', 400),
    (b'{"$and":' + b"[" * 40 + b"]" * 40 + b"}", 400), (b'{"$and":' + b"[" * 3000 + b"]" * 3000 + b"}", 400),
    (b'{"role_id":"' + b"x" * 70_000 + b'"}', 400), (b'{"role_id":{"$in":[' + b",".join([b'"a"'] * 10_001) + b"]}}", 400),
    (b"{" + b",".join(b'"k%d":0' % n for n in range(1001)) + b"}", 400),
    (b'{"$where":"sleep(1000)"}', 400), (b'{"role_id":{"$regex":"(?=a+)"}}', 400), (b'{"role_id":{"$not":{"$where":"1"}}}', 400),
    (b'{"org_id":"bolt"}', 400), (b'{"org_id__in":["bolt"]}', 400),
    (b'{"__proto__":{}}', 400), (b'{"subject__org":"bolt"}', 400), (b" " * 1_048_577, 413),
]  # fmt: skip


@pytest.mark.parametrize(("path", "case"), list(itertools.product(["/role-group", "/subject-roles"], BAD)))
def test_bad_filters_are_refused(client, path, case):
    body, status = case
    response = client.generic("POST", path, body, content_type="application/json", headers=bearer(make_key("acme")))
    assert response.status_code == status
    assert response.json()["success"] is False and response.json()["error"] and "Traceback" not in response.text


@pytest.mark.parametrize("path", ["/role-group", "/subject-roles"])
def test_who_may_ask_and_how(client, path):
    def post(headers=None, kind="application/json"):
        return client.generic("POST", path, b"{}", content_type=kind, headers=headers or {})

    assert post().status_code == 401
    for role, status in {"submitter": 200, "operator": 200, "org_admin": 200, "agent": 403}.items():
        assert post(bearer(make_key("acme", role, subject_id="x"))).status_code == status
    key = bearer(make_key("acme"))
    assert post(key, "text/plain").status_code == 415
    for method in ("get", "put", "delete", "patch", "options"):
        assert getattr(client, method)(path, headers=key).status_code == 405
    assert client.post(f"{path}/", headers=key).status_code == client.post(path.upper(), headers=key).status_code == 404
