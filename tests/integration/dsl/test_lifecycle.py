"""From draft to active: a version's own tests, who may activate it, what changed, and that config names only what exists."""

from __future__ import annotations

import json

import pytest

from apps.dsl import scripts
from apps.dsl.models import Backtest, PolicyScript
from apps.orgs.config_store import OrgConfigProvider
from apps.orgs.models import Change
from jobplatform.env import BASE_DIR
from tests.factories import NOON, bearer, make_key, make_org
from tests.integration.dsl.bombs import BOMBS, approve
from tests.integration.dsl.test_backtest import record

pytestmark = pytest.mark.django_db

PATH = "/api/v1/policies"
GOOD = approve("return {'accepted': task['priority'] < 100, 'reason': 'below 100'}")
WORSE = approve("return {'accepted': task['priority'] < 10, 'reason': 'below 10'}")
TESTS = [
    {"name": "small ones pass", "input": {"task": {"priority": 5}}, "expect": {"accepted": True, "reason": "below 100"}},
    {"name": "large ones do not", "input": {"task_goal": "x", "task_priority_value": 100}, "expect": {"accepted": False}},
    {"name": "nor does 99 wait", "input": {"priority": 99}, "expect": {"accepted": True}},
]


@pytest.fixture
def ann():
    return bearer(make_key("acme", "org_admin", subject_id="ann"))


@pytest.fixture
def bob():
    return bearer(make_key("acme", "org_admin", subject_id="bob"))


def post(client, path: str, body, headers):
    return client.post(path, data=json.dumps(body), content_type="application/json", headers=headers)


def register(client, headers, source=GOOD, tests=TESTS, script_id="approval/mine", **more):
    return post(client, PATH, {"script_id": script_id, "hook": "approval", "source": source, "tests": tests, **more}, headers)


def activate(client, headers, version: int, script_id="approval/mine"):
    return post(client, f"{PATH}/{script_id}/activate", {"version": version}, headers)


# ---- tests of a version -------------------------------------------------------------------------------------


def test_a_version_whose_tests_pass_becomes_active(client, ann):
    made = register(client, ann)
    assert made.status_code == 201 and made.json()["tests_count"] == 3
    assert activate(client, ann, 1).json()["status"] == "active"
    assert client.get(f"{PATH}/approval/mine", headers=ann).json()["tests"] == TESTS


def test_a_version_whose_tests_fail_stays_a_draft_and_each_failure_says_what_was_expected_and_what_came(client, ann):
    register(client, ann, activate=True)
    register(client, ann, WORSE)
    refused = activate(client, ann, 2)
    assert refused.status_code == 422 and refused.json()["code"] == "tests_failed"
    (first, last) = refused.json()["tests"]
    assert first["name"] == "small ones pass" and first["expected"]["reason"] == "below 100" and first["actual"]["reason"] == "below 10"
    assert (last["name"], last["actual"]["accepted"]) == ("nor does 99 wait", False)
    assert [problem["field"] for problem in refused.json()["errors"]] == ["tests[0]", "tests[2]"]
    assert "expected" in refused.json()["errors"][0]["message"] and "got" in refused.json()["errors"][0]["message"]
    assert dict(PolicyScript.objects.values_list("version", "status")) == {1: "active", 2: "draft"}


def test_registering_and_activating_at_once_keeps_nothing_when_the_tests_fail(client, ann):
    assert register(client, ann, WORSE, activate=True).status_code == 422
    assert not PolicyScript.objects.exists()


@pytest.mark.parametrize("bomb", ["a loop of a milliard steps", "the text of a deep list", "numbers as keys"])
def test_a_bomb_does_not_pass_its_tests(client, ann, bomb):
    refused = register(client, ann, BOMBS[bomb][0], TESTS[:1], activate=True)
    assert refused.status_code == 422 and refused.json()["tests"][0]["error"]


@pytest.mark.parametrize(
    ("expect", "passes"),
    [({"accepted": 1}, False), ({"accepted": True, "reason": "below 100"}, True), ({"missing": None}, False), ({"accepted": None}, False)],
)
def test_what_is_expected_is_meant_exactly(client, ann, expect, passes):
    register(client, ann, tests=[{"name": "x", "input": {"priority": 1}, "expect": expect}])
    assert (activate(client, ann, 1).status_code == 200) is passes


@pytest.mark.parametrize(
    ("tests", "field"),
    [
        ({}, "tests"), ([1], "tests[0]"), ([{"name": "x"}], "tests[0]"), ([{**TESTS[0], "more": 1}], "tests[0]"),
        ([{**TESTS[0], "name": ""}], "tests[0].name"), ([TESTS[0], TESTS[0]], "tests[1].name"),
        ([{**TESTS[0], "input": []}], "tests[0].input"),
        ([{**TESTS[0], "expect": {}}], "tests[0].expect"), ([{**TESTS[0], "name": str(n)} for n in range(101)], "tests"),
    ],
)  # fmt: skip
def test_tests_that_are_none_are_refused_and_the_place_is_named(client, ann, tests, field):
    refused = register(client, ann, tests=tests)
    assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == field
    assert not PolicyScript.objects.exists()


def test_the_same_text_with_other_tests_is_another_version(client, ann):
    assert register(client, ann).json()["version"] == 1
    assert register(client, ann, tests=TESTS[:1]).json()["version"] == 2
    assert register(client, ann).json()["version"] == 1
    assert post(client, PATH, {"script_id": "approval/mine", "hook": "approval", "source": GOOD}, ann).json()["version"] == 2


def test_tests_may_be_run_any_time_and_others_too(client, ann):
    register(client, ann, WORSE)
    ran = post(client, f"{PATH}/approval/mine/run-tests", {}, ann).json()
    assert (ran["version"], ran["passed"], ran["failed"]) == (1, 1, 2)
    assert [test["passed"] for test in ran["tests"]] == [False, True, False]
    other = {"tests": [{"name": "five", "input": {"priority": 5}, "expect": {"accepted": True}}], "version": 1}
    assert post(client, f"{PATH}/approval/mine/run-tests", other, ann).json()["failed"] == 0
    assert post(client, f"{PATH}/approval/mine/run-tests", {"version": 9}, ann).status_code == 404
    assert post(client, f"{PATH}/approval/mine/run-tests", {"tests": [1]}, ann).status_code == 422


def test_the_built_in_scripts_bring_their_tests_and_pass_them():
    for registered in scripts.load_built_in(BASE_DIR / "dsl_scripts", now=NOON):
        script = registered.script
        assert script.tests and all(outcome.passed for outcome in scripts.test(script)), script.script_id


def test_a_built_in_script_whose_tests_fail_is_not_loaded(tmp_path):
    (tmp_path / "approval").mkdir()
    (tmp_path / "approval" / "x.star").write_text(WORSE)
    (tmp_path / "approval" / "x.tests.json").write_text(json.dumps(TESTS))
    with pytest.raises(scripts.Invalid, match="x.star, or one of its tests"):
        scripts.load_built_in(tmp_path, now=NOON)
    assert not PolicyScript.objects.exists()


# ---- who may activate ---------------------------------------------------------------------------------------


def test_an_org_may_want_another_person_to_activate(client, ann, bob):
    make_org("acme", policy_activation_needs_other_person=True)
    register(client, ann)
    refused = activate(client, ann, 1)
    assert (refused.status_code, refused.json()["code"]) == (403, "other_person_needed")
    again = bearer(make_key("acme", "org_admin", subject_id="ann"))
    assert activate(client, again, 1).status_code == 403, "another key of the same person is the same person"
    assert register(client, ann, WORSE, [], activate=True).status_code == 403 and PolicyScript.objects.count() == 1
    assert register(client, ann, activate=True).status_code == 403
    assert activate(client, bob, 1).json()["status"] == "active"
    told = Change.objects.filter(org_id="acme", kind="policy", new="active").get()
    assert told.by.startswith("bob (key ") and PolicyScript.objects.get().created_by.startswith("ann (key ")


def test_the_second_person_may_send_the_same_text_to_activate_it(client, ann, bob):
    make_org("acme", policy_activation_needs_other_person=True)
    register(client, ann)
    assert register(client, bob, activate=True).json()["status"] == "active"


def test_operators_test_and_compare_but_do_not_register_or_activate(client, ann):
    register(client, ann)
    op = bearer(make_key("acme", "operator"))
    assert register(client, op).status_code == activate(client, op, 1).status_code == 403
    assert client.get(f"{PATH}/approval/mine/diff", headers=op).status_code == 200
    assert post(client, f"{PATH}/approval/mine/run-tests", {}, op).status_code == 200
    sub = bearer(make_key("acme", "submitter"))
    for path in ("run-tests", "backtest"):
        assert post(client, f"{PATH}/approval/mine/{path}", {}, sub).status_code == 403


# ---- what changed -------------------------------------------------------------------------------------------


def test_two_versions_are_compared_line_by_line_and_test_by_test(client, ann):
    register(client, ann)
    register(client, ann, WORSE, [TESTS[1], {**TESTS[2], "expect": {"accepted": False}}, {**TESTS[0], "name": "new"}])
    told = client.get(f"{PATH}/approval/mine/diff", headers=ann).json()
    assert (told["from"], told["to"], told["added"], told["removed"]) == (1, 2, 1, 1)
    assert "-    return {'accepted': task['priority'] < 100" in told["diff"] and "+++ approval/mine@2" in told["diff"]
    assert told["tests"] == {"added": ["new"], "removed": ["small ones pass"], "changed": ["nor does 99 wait"]}
    back = client.get(f"{PATH}/approval/mine/diff?from=2&to=1", headers=ann).json()
    assert "+    return {'accepted': task['priority'] < 100" in back["diff"]
    assert client.get(f"{PATH}/approval/mine/diff?from=1&to=1", headers=ann).json()["diff"] == ""
    for query in ("from=9", "to=x", "from=-1", "to=99999999999999999999"):
        assert client.get(f"{PATH}/approval/mine/diff?{query}", headers=ann).status_code == 404


# ---- backtests over HTTP --------------------------------------------------------------------------------------


@pytest.fixture
def recorded(redis, client, ann):
    record(30, output={"accepted": True, "reason": ""})
    register(client, ann, approve("return {'accepted': task['priority'] < 20}"), [])


def test_a_short_backtest_answers_at_once(client, ann, recorded):
    done = post(client, f"{PATH}/approval/mine/backtest", {"limit": 25}, ann)
    body = done.json()
    assert (done.status_code, body["status"], body["result"]["flipped"], body["version"]) == (200, "done", 10, 1)
    assert body["summary"].startswith("10 of 25 recorded decisions would be another: 10 accept -> ")
    assert [flip["task_id"] for flip in body["flips"]] == [f"t{n}" for n in range(20, 30)]
    assert client.get(body["status_url"], headers=ann).json()["result"] == body["result"]
    assert [each["id"] for each in client.get("/api/v1/backtests", headers=ann).json()["items"]] == [body["id"]]


def test_flips_come_in_pages(client, ann, recorded, monkeypatch):
    from apps.dsl import api_backtests

    monkeypatch.setattr(api_backtests, "PAGE", 4)
    url = post(client, f"{PATH}/approval/mine/backtest", {}, ann).json()["status_url"]
    seen, cursor = [], "0"
    while cursor:
        page = client.get(f"{url}/flips?cursor={cursor}", headers=ann).json()
        seen += [flip["task_id"] for flip in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [f"t{n}" for n in range(20, 30)]
    assert client.get(f"{url}/flips?change=accept+-%3E+hold", headers=ann).json()["items"] == []
    assert client.get(f"{url}/flips?cursor=x", headers=ann).status_code == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"version": "1"}, "version"), ({"version": 0}, "version"), ({"version": True}, "version"), ({"limit": 0}, "limit"),
        ({"limit": 500_001}, "limit"), ({"limit": 1.0}, "limit"), ({"since": "yesterday"}, "since"),
        ({"since": "2026-11-22T12:00:00"}, "since"), ({"task_ids": "t1"}, "task_ids"),
        ({"until": 5}, "until"), ({"since": "2026-11-22T12:00:00Z", "until": "2026-11-22T12:00:00Z"}, "until"),
        ({"task_ids": [1]}, "task_ids"), ({"task_ids": ["x"] * 1001}, "task_ids"), ({"tasks": []}, "tasks"),
        ({"since": "2027-01-01T00:00:00Z"}, ""),
    ],
)  # fmt: skip
def test_a_window_that_is_none_is_refused_and_nothing_is_kept(client, ann, recorded, body, field):
    refused = post(client, f"{PATH}/approval/mine/backtest", body, ann)
    assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == field
    assert not Backtest.objects.exists()


def test_another_orgs_scripts_versions_and_backtests_are_not_there(client, ann, recorded):
    test = post(client, f"{PATH}/approval/mine/backtest", {}, ann).json()
    eve = bearer(make_key("globex", "org_admin"))
    for path in (f"{PATH}/approval/mine/diff", test["status_url"], f"{test['status_url']}/flips"):
        nowhere = path.replace("mine", "nope").replace(test["id"], "0" * 32)
        foreign, missing = client.get(path, headers=eve), client.get(nowhere, headers=eve)
        assert foreign.status_code == missing.status_code == 404 and foreign.json()["detail"] == missing.json()["detail"]
    for verb in ("run-tests", "backtest"):
        foreign, missing = (post(client, f"{PATH}/approval/{name}/{verb}", {}, eve) for name in ("mine", "nope"))
        assert foreign.status_code == missing.status_code == 404 and foreign.json()["detail"] == missing.json()["detail"]
    assert client.get("/api/v1/backtests", headers=eve).json()["items"] == []
    # Built-in scripts are everybody's, the recorded inputs are not.
    scripts.register(org_id="", script_id="approval/all", hook="approval", source=GOOD, by="platform", now=NOON, activate=True)
    assert post(client, f"{PATH}/approval/all/backtest", {}, eve).json()["errors"][0]["code"] == "nothing_recorded"


# ---- config names only scripts that exist ---------------------------------------------------------------------


@pytest.fixture
def configured(redis, client, ann):
    register(client, ann, activate=True)
    source = "def prioritize(task):\n    return {'priority': 1}\n"
    scripts.register(org_id="acme", script_id="priority/mine", hook="priority", source=source, by="ann", now=NOON, activate=True)
    scripts.register(org_id="acme", script_id="approval/asleep", hook="approval", source=GOOD, by="ann", now=NOON)
    scripts.register(org_id="globex", script_id="approval/theirs", hook="approval", source=GOOD, by="eve", now=NOON, activate=True)


def set_approval(client, headers, value):
    return post(client, "/org-config/acme/approval_dsl_id", {"value": value}, headers)


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ("approval/mein", "unknown_script", "did you mean 'approval/mine'?"),
        ("approval/theirs", "unknown_script", "no policy script of this org"),
        ("priority/mine", "other_hook", "answers priority, not approval"),
        ("approval/asleep", "not_active", "activate one first"),
        ("remote:gate", "no_service", "set dsl_remote_url and dsl_remote_secret first"),
    ],
)
def test_a_config_key_names_only_a_script_that_answers_its_question(client, ann, configured, value, code, words):
    refused = set_approval(client, ann, value)
    assert refused.status_code == 422 and refused.json()["errors"][0]["code"] == code and words in refused.json()["error"]
    assert OrgConfigProvider().of("acme").approval_dsl_id == "approval/default"


def test_scripts_that_exist_and_remote_ones_with_a_service_may_be_named(client, ann, configured):
    assert set_approval(client, ann, "approval/mine").status_code == 200
    assert set_approval(client, ann, None).status_code == 200
    for key, value in {"dsl_remote_url": "https://policies.example.com/", "dsl_remote_secret": "sixteen-letters-at-least"}.items():
        assert post(client, f"/org-config/acme/{key}", {"value": value}, ann).status_code == 200
    assert set_approval(client, ann, "remote:gate").status_code == 200
    shown = client.get("/org-config/acme/dsl_remote_secret", headers=ann).json()
    assert shown["value"] == "(secret)"
    assert "sixteen" not in json.dumps(list(Change.objects.values()), default=str)


INSIDE = ["http://127.0.0.1:8080/", "http://169.254.169.254/", "file:///etc/passwd", "http://u:p@example.com/", "http://[::1]/"]


@pytest.mark.parametrize("url", INSIDE)
def test_a_remote_url_that_may_not_be_called_is_refused(client, ann, configured, url):
    refused = post(client, "/org-config/acme/dsl_remote_url", {"value": url}, ann)
    assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == "value"
