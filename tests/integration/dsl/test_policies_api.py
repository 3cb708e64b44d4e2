"""Policy scripts over HTTP."""

from __future__ import annotations

import json

import pytest

from apps.dsl import scripts
from apps.dsl.models import PolicyScript
from apps.orgs.models import Change
from tests.factories import NOON, bearer, make_key, make_org
from tests.integration.dsl.bombs import BOMBS, approve

pytestmark = pytest.mark.django_db

PATH = "/api/v1/policies"
ONE, TWO = approve("return {'accepted': True}"), approve("return {'accepted': False}")


@pytest.fixture
def admin():
    return bearer(make_key("acme", "org_admin", subject_id="root"))


@pytest.fixture
def built_in():
    return scripts.register(org_id="", script_id="approval/default", hook="approval", source=ONE, by="platform", now=NOON, activate=True)


def post(client, path: str, body, headers):
    return client.post(path, data=json.dumps(body), content_type="application/json", headers=headers)


def register(client, headers, source: str = ONE, script_id: str = "approval/mine", **more):
    return post(client, PATH, {"script_id": script_id, "hook": "approval", "source": source, **more}, headers)


def test_a_version_is_registered_shown_activated_and_retired(client, admin):
    first = register(client, admin)
    assert first.status_code == 201
    body = first.json()
    assert (body["script_id"], body["version"], body["status"], body["built_in"]) == ("approval/mine", 1, "draft", False)
    assert body["created_by"].startswith("root (key ")
    assert register(client, admin).status_code == 200, "the same text is the same version"
    assert register(client, admin, TWO, activate=True).json()["status"] == "active"
    assert post(client, f"{PATH}/approval/mine/activate", {"version": 1}, admin).json()["status"] == "active"
    shown = client.get(f"{PATH}/approval/mine", headers=admin).json()
    assert (shown["version"], shown["source"]) == (1, ONE)
    assert [(v["version"], v["status"]) for v in shown["versions"]] == [(2, "retired"), (1, "active")]
    assert client.get(f"{PATH}/approval/mine?version=2", headers=admin).json()["source"] == TWO
    assert (shown["active_version"], shown["named_by"]) == (1, [])
    make_org("acme", approval_dsl_id="approval/mine")
    gone = post(client, f"{PATH}/approval/mine/retire", {"version": 1}, admin).json()
    assert (gone["status"], gone["active_version"], gone["named_by"]) == ("retired", None, ["approval_dsl_id"])


def test_who_changed_which_script_is_on_record(client, admin):
    register(client, admin, activate=True)
    changes = Change.objects.filter(org_id="acme", kind="policy").order_by("id")
    assert [(c.key, c.old, c.new) for c in changes] == [("approval/mine@1", None, "draft"), ("approval/mine@1", "draft", "active")]
    assert all(c.by.startswith("root (key ") for c in changes)


def test_the_list_shows_the_orgs_own_and_the_built_in_ones(client, admin, built_in):
    register(client, admin)
    register(client, bearer(make_key("other", "org_admin")), script_id="approval/theirs")
    listed = client.get(PATH, headers=admin).json()
    assert listed == {
        "items": [
            {"script_id": "approval/default", "hook": "approval", "built_in": True, "active_version": 1, "latest_version": 1},
            {"script_id": "approval/mine", "hook": "approval", "built_in": False, "active_version": None, "latest_version": 1},
        ],
        "next_cursor": None,
    }
    assert client.get(f"{PATH}?hook=priority", headers=admin).json()["items"] == []
    assert client.get(f"{PATH}?cursor=approval/default", headers=admin).json()["items"][0]["script_id"] == "approval/mine"
    assert client.get(f"{PATH}?hook=nonsense", headers=admin).status_code == 422


def test_an_own_script_stands_in_for_the_built_in_one_of_its_name(client, admin, built_in):
    assert client.get(f"{PATH}/approval/default", headers=admin).json()["built_in"] is True
    register(client, admin, TWO, script_id="approval/default", activate=True)
    assert client.get(f"{PATH}/approval/default", headers=admin).json()["source"] == TWO
    assert [item["built_in"] for item in client.get(PATH, headers=admin).json()["items"]] == [False]


def test_it_cannot_answer_another_question_than_the_built_in_one(client, admin, built_in):
    body = {"script_id": "approval/default", "hook": "priority", "source": "def prioritize(task): return {'priority': 1}"}
    assert post(client, PATH, body, admin).status_code == 409


def test_another_orgs_script_is_as_missing_as_none(client, admin, built_in):
    theirs = bearer(make_key("other", "org_admin"))
    register(client, theirs, script_id="approval/theirs", activate=True)

    def without_id(response):
        return response.status_code, {name: value for name, value in response.json().items() if name != "request_id"}

    for verb in ("", "/activate", "/retire"):
        answers = []
        for script_id in ("approval/theirs", "approval/none", "a b", "x" * 300):
            path = f"{PATH}/{script_id}{verb}"
            answers.append(without_id(post(client, path, {"version": 1}, admin) if verb else client.get(path, headers=admin)))
        assert answers[0][0] == 404
        assert answers.count(answers[0]) == len(answers)
    assert PolicyScript.objects.get(script_id="approval/theirs").status == "active"


def test_built_in_scripts_are_changed_by_nobody_here(client, admin, built_in):
    assert post(client, f"{PATH}/approval/default/retire", {"version": 1}, admin).status_code == 404
    assert PolicyScript.objects.get().status == "active"


@pytest.mark.parametrize(
    ("role", "look", "write"),
    [("org_admin", 200, 201), ("operator", 200, 403), ("submitter", 403, 403), ("agent", 403, 403), (None, 401, 401)],
)
def test_operators_look_and_admins_write(client, built_in, role, look, write, redis):
    headers = bearer(make_key("acme", role, subject_id="sam")) if role else {}
    assert client.get(PATH, headers=headers).status_code == look
    assert client.get(f"{PATH}/approval/default", headers=headers).status_code == look
    assert register(client, headers).status_code == write
    wanted = 200 if write == 201 else write
    assert post(client, f"{PATH}/approval/mine/activate", {"version": 1}, headers).status_code == wanted


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def approve(task)\n  return 1", "line 1: Parse error"),
        ("x = 1\n\ndef approve(task):\n  return y", "line 4: Variable `y` not found"),
        ("def other(task): return 1", "has no function approve"),
        (BOMBS["a deep list literal"][0][:60_000], "line 1"),
        (BOMBS["a long chain of minus"][0], "nested too deeply"),
        ("x = [i for i in range(1000000000) if i < 0]\n" + ONE, "took longer"),
    ],
    ids=["syntax", "unknown name", "no entry", "half a literal", "stack bomb", "time bomb"],
)
def test_a_script_that_cannot_work_is_refused_with_its_line(client, admin, source, words):
    response = register(client, admin, source)
    assert response.status_code == 422
    (problem,) = response.json()["errors"]
    assert problem["field"] == "source"
    assert words in problem["message"]
    assert not PolicyScript.objects.exists()


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"script_id", "hook", "source"}),
        ({"script_id": 1, "hook": None, "source": ["x"], "activate": 1}, {"script_id", "hook", "source", "activate"}),
        ({"script_id": "a", "hook": "approval", "source": ONE, "status": "active", "org_id": "other"}, {"status", "org_id"}),
        ({"script_id": "../x", "hook": "nonsense", "source": ""}, {"script_id", "hook", "source"}),
        ({"script_id": "a/retire", "hook": "approval", "source": ONE}, {"script_id"}),
    ],
)
def test_every_problem_of_a_registration_is_named(client, admin, body, fields):
    response = post(client, PATH, body, admin)
    assert response.status_code == 422
    assert {problem["field"] for problem in response.json()["errors"]} == fields
    assert not PolicyScript.objects.exists()


@pytest.mark.parametrize("version", [None, "1", 1.0, True, 0, -1, 99, 2**40])
def test_an_odd_version_changes_nothing(client, admin, version):
    register(client, admin)
    response = post(client, f"{PATH}/approval/mine/activate", {"version": version}, admin)
    assert response.status_code == (404 if type(version) is int else 422)
    assert PolicyScript.objects.get().status == "draft"


def test_a_script_beyond_256_kb_is_too_large(client, admin):
    assert register(client, admin, ONE + "#" * 200 * 1024).status_code == 201
    assert register(client, admin, ONE + "#" * 256 * 1024).status_code == 413
    assert register(client, admin, ONE + "#" * 2 * 1024 * 1024).status_code == 413


@pytest.mark.parametrize("raw", [b"", b"{", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff", b"\xef\xbb\xbf{}"])
def test_what_is_not_json_is_malformed(client, admin, raw):
    assert client.post(PATH, data=raw, content_type="application/json", headers=admin).status_code == 400


def test_other_methods_are_not_taken(client, admin, built_in):
    for method in ("put", "patch", "delete"):
        assert getattr(client, method)(f"{PATH}/approval/default", headers=admin).status_code == 405
    assert client.get(f"{PATH}/approval/default/activate", headers=admin).status_code == 405
