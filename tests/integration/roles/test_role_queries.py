"""POST /role-group and POST /subject-roles: the spec's answers, MongoDB's meaning, and one org at a time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.roles import api
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
    monkeypatch.setattr(api, "MAX_DOCUMENTS", 2)
    assert "narrow the filter" in ask("/role-group", {}, 400)["errors"][0]["message"]
    assert len(ask("/role-group", {"role_type": "SCOUTING"})["data"]) == 2


def test_a_query_costs_the_same_however_much_it_finds(ask, django_assert_max_num_queries):
    with django_assert_max_num_queries(3):  # the key, the roles, their groups
        ask("/role-group", {})
    with django_assert_max_num_queries(2):
        ask("/subject-roles", {})


# ---- MongoDB's meaning, against a plain reading of it on the documents ------------------------------------------


MEANING = {
    "$eq": lambda held, operand: operand in held,
    "$ne": lambda held, operand: operand not in held,
    "$in": lambda held, operand: any(value in held for value in operand),
    "$nin": lambda held, operand: all(value not in held for value in operand),
    "$exists": lambda held, operand: operand,
}


def matches(document: dict, filter: dict) -> bool:
    def one(name, wanted):
        if name == "$and":
            return all(matches(document, branch) for branch in wanted)
        if name == "$or":
            return any(matches(document, branch) for branch in wanted)
        held = document[name] if isinstance(document[name], list) else [document[name]]
        if isinstance(wanted, str):
            return wanted in held
        return all(MEANING[operator](held, operand) for operator, operand in wanted.items())

    return all(one(name, wanted) for name, wanted in filter.items())


ROLE_DOCUMENTS = [dict(zip(("role_id", "role_type", "group_ids", "job_space_id"), row, strict=True)) for row in ROLES]
SUBJECT_DOCUMENTS = [dict(zip(("subject_id", "subject_type", "job_space_id", "role_ids"), row, strict=True)) for row in HELD]


def filters_on(documents):
    values = [value for document in documents for value in document.values()]
    words = sorted({word for value in values for word in (value if isinstance(value, list) else [value])}) + ["x"]
    text, texts = st.sampled_from(words), st.lists(st.sampled_from(words), max_size=3)
    operators = st.fixed_dictionaries({}, optional={"$eq": text, "$ne": text, "$in": texts, "$nin": texts, "$exists": st.booleans()})
    on_fields = st.dictionaries(st.sampled_from(sorted(documents[0])), text | operators.filter(bool), max_size=2)
    return st.recursive(
        on_fields,
        lambda inner: st.dictionaries(st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3), min_size=1, max_size=2),
        max_leaves=6,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(role_filter=filters_on(ROLE_DOCUMENTS), subject_filter=filters_on(SUBJECT_DOCUMENTS))
def test_filters_mean_what_they_mean_in_mongodb(ask, role_filter, subject_filter):
    found = ask("/role-group", role_filter)["data"]
    assert found == sorted((doc for doc in ROLE_DOCUMENTS if matches(doc, role_filter)), key=lambda doc: doc["role_id"])
    found = ask("/subject-roles", subject_filter)["data"]
    expected = [doc for doc in SUBJECT_DOCUMENTS if matches(doc, subject_filter)]
    assert found == sorted(expected, key=lambda doc: (doc["subject_id"], doc["job_space_id"]))


# ---- bad input ---------------------------------------------------------------------------------------------------

BAD = [
    (b"", 400), (b"{", 400), (b"[]", 400), (b"null", 400), (b'"x"', 400),
    (b'{"role_id":NaN}', 400), (b'{"role_id":"a","role_id":"b"}', 400),
    (b"\xef\xbb\xbf{}", 400), (b'{"role_id":"\xff"}', 400), (b'{"role_id":"\\ud800"}', 400), (b'{"role_id":"\\u0000"}', 400),
    (b'{"role_id":9223372036854775808}', 400), (b'{"role_id":1e400}', 400), (b'{"role_id":-0}', 400),
    (b'{"$and":' + b"[" * 40 + b"]" * 40 + b"}", 400), (b'{"$and":' + b"[" * 3000 + b"]" * 3000 + b"}", 400),
    (b'{"role_id":"' + b"x" * 70_000 + b'"}', 400), (b'{"role_id":{"$in":[' + b",".join([b'"a"'] * 10_001) + b"]}}", 400),
    (b"{" + b",".join(b'"k%d":0' % n for n in range(1001)) + b"}", 400),
    (b'{"$where":"sleep(1000)"}', 400), (b'{"role_id":{"$regex":"(a+)+$"}}', 400),
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
