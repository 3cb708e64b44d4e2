"""A person's inbox: tasks come in without the wire, questions appear for whom they are put to, and pages do it all with a mouse."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from apps.agents.holds import Holds
from apps.agents.presence import PresenceBoard
from apps.core import clock
from apps.core import redis as door
from apps.core.auth import Principal
from apps.messaging.envelope import ReportKind
from apps.orgs.models import Org
from apps.people.inbox import Inbox
from apps.people.models import Login
from apps.roles import directory
from apps.roles.models import Subject
from apps.tasks import people, steering
from apps.tasks.executor import JobExecutor
from apps.tasks.loader import TaskLoader
from apps.tasks.models import Task, Transition
from apps.tasks.results import ReportDesk
from apps.tasks.sweeper import HEARING_SECONDS, Listening, Sweeper
from tests.factories import make_agent, make_entry, make_key, make_org, make_task
from tests.integration.tasks_api.conftest import ASK_PERSON, Caller, configure, register
from tests.threads import at_once

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("nats")]


@pytest.fixture
def ann(db, redis) -> Caller:
    return furnish()


@pytest.fixture
def shared_ann(transactional_db, redis) -> Caller:
    return furnish()


def furnish() -> Caller:
    make_org("acme")
    register("approval/person", "approval", ASK_PERSON)
    configure(approval_dsl_id="approval/person", verification_required=True, human_slots=2)
    make_agent("acme", "ann", subject_type="human")
    return Caller(make_key("acme", "submitter", "ann"))


def submit(task_id: str = "t1", wish: str = "yes", **fields) -> None:
    payload = {"wish": wish, **fields.pop("payload", {})}
    entry = make_entry(task_id=task_id, task_job_submission_data=payload, **fields)
    assert Caller(make_key("acme", "submitter", "sam")).post("/api/v1/tasks", entry).status_code == 201


def run() -> int:
    return JobExecutor().run_batch(now=clock.now())


def row(task_id: str = "t1") -> Task:
    return Task.objects.get(pk=f"acme/{task_id}")


def say(who: Caller, act: str, task_id: str = "t1", **body):
    return who.post(f"/api/v1/inbox/{task_id}/{act}", body or None)


def ids(who: Caller, name: str) -> list[str]:
    return [task["task_id"] for task in who.get("/api/v1/inbox").json()[name]]


# ---- work -------------------------------------------------------------------------------------------------


def test_a_task_for_a_person_waits_in_the_inbox_and_is_done_there(ann):
    submit()
    assert run() == 1
    assert (row().status, row().reason, row().held_by_person, row().delivery_seq) == ("dispatched", "in the inbox of ann", True, 0)
    assert ids(ann, "to_do") == ["t1"]
    assert say(ann, "start").json()["status"] == "running"
    assert (ids(ann, "to_do"), ids(ann, "in_progress")) == ([], ["t1"])
    assert say(ann, "progress", percent=40, message="half way").json()["progress"] == 40.0
    done = say(ann, "complete", result={"words": 7}).json()
    assert (done["status"], done["result"]) == ("completed", {"words": 7})
    assert Transition.objects.filter(task_key="acme/t1", new="completed").get().actor == "person:ann"
    assert say(ann, "complete", result=8).json()["code"] == "not_in_hand"
    assert PresenceBoard().states("acme", ["ann"], now=clock.now())["ann"].load == 0


def test_a_person_takes_as_many_tasks_as_there_are_places_and_counts_as_present_beside_agents(ann):
    for n in range(3):
        submit(f"n{n}")
    run()
    assert (len(ids(ann, "to_do")), row("n2").status) == (2, "queued")
    PresenceBoard().record("acme", "ada", slots=4, instance="x", leaving=False, now=clock.now())
    make_agent("acme", "ada")
    say(ann, "start", "n0")
    say(ann, "complete", "n0", result=1)
    configure(agent_resolution_strategy="static", static_head_agent_subject_id="ann")
    door.client().flushdb()
    TaskLoader().reconcile(now=clock.now() + timedelta(seconds=5))
    run()
    assert row("n2").head_agent_subject_id in ("ann", "ada")


def test_the_inbox_shows_of_a_task_what_its_parts_come_to(ann):
    submit("t1")
    run()
    make_task("s1", kind="sub_task", parent_key="acme/t1", status="rejected")
    make_task("s2", kind="sub_task", parent_key="acme/t1")
    (shown,) = ann.get("/api/v1/inbox").json()["to_do"]
    assert (shown["sub_tasks"]["by_status"], shown["progress"]) == ({"queued": 1, "rejected": 1}, 50.0)
    assert "2: 1 queued, 1 rejected" in signed_in().get("/inbox/tasks/t1").text


def test_what_is_declined_goes_to_somebody_else_and_what_fails_ends(ann):
    make_agent("acme", "ben", subject_type="human")
    ben = Caller(make_key("acme", "submitter", "ben"))
    submit("t1")
    run()
    assert say(ann, "decline", reason="on holiday").json()["status"] == "queued"
    run()
    assert (row().head_agent_subject_id, ids(ann, "to_do"), ids(ben, "to_do")) == ("ben", [], ["t1"])
    assert say(ann, "start").status_code == 404
    assert say(ben, "fail").status_code == 422
    assert say(ben, "fail", reason="no data").json()["status"] == "failed"


def lapse(now) -> int:
    Listening().mark(now=now - timedelta(seconds=HEARING_SECONDS))
    return Sweeper().lapse(now=now)


def test_starting_and_progress_renew_a_persons_time(ann):
    configure(human_lease_s=3600)
    submit("t1")
    run()
    began, who = clock.now(), Principal(org_id="acme", role="submitter", subject_id="ann", key_id="k", name="")
    for kind, said, hours in ((ReportKind.ACCEPTED, {}, 0.9), (ReportKind.PROGRESS, {"percent": 10.0}, 1.8)):
        at = began + timedelta(hours=hours)
        Inbox(who, now=at).say(row(), kind, now=at, **said)
    assert (lapse(began + timedelta(hours=2.7)), row().status) == (0, "running")
    assert (lapse(began + timedelta(hours=2.9)), row().status) == (1, "queued")


def test_a_person_may_be_silent_for_as_long_as_the_org_allows(ann):
    submit("t1")
    run()
    later = clock.now() + timedelta(days=30)
    assert (lapse(later), row().status) == (0, "dispatched")
    door.client().flushdb()
    TaskLoader().reconcile(now=clock.now())
    assert Holds().lapsed(now=later, limit=9) == []
    configure(human_lease_s=3600)
    door.client().flushdb()
    TaskLoader().reconcile(now=clock.now())
    assert lapse(clock.now() + timedelta(seconds=3700)) == 1
    assert (row().status, "ann did not answer for 3600 s" in row().reason) == ("queued", True)


def test_a_task_taken_away_is_out_of_hand(ann):
    submit("t1")
    run()
    steering.cancel(row(), actor="tests", reason="", now=clock.now())
    assert say(ann, "start").json()["code"] == "not_in_hand"


@pytest.mark.parametrize("act", ["start", "complete", "decline"])
def test_who_is_overtaken_while_saying_it_is_told_so(ann, monkeypatch, act):
    submit("t1")
    run()
    really = ReportDesk.apply

    def overtaken(desk, reports, **how):
        steering.cancel(row(), actor="tests", reason="", now=clock.now())
        return really(desk, reports, **how)

    monkeypatch.setattr(ReportDesk, "apply", overtaken)
    late = say(ann, act)
    assert (late.status_code, late.json()["code"], row().status) == (409, "lost_race", "cancelled")


@pytest.mark.parametrize("act", ["complete", "decline"])
def test_a_person_and_a_cancel_at_once_leave_one_end(shared_ann, act):
    configure(human_slots=20)
    names = [f"r{n}" for n in range(5)]
    for name in names:
        submit(name)
    run()
    for name in names:
        say(shared_ann, "start", name)
    codes: dict[str, int] = {}

    def work(index: int):
        for name in names:
            if index:
                codes[name] = say(shared_ann, act, name).status_code
            else:
                with suppress(steering.AlreadyEnded):
                    steering.cancel(row(name), actor="tests", reason="", now=clock.now())

    at_once(2, work)
    for name in names:
        assert row(name).status in {"complete": ("cancelled", "completed"), "decline": ("cancelled", "queued")}[act]
        if row(name).status == "completed":
            assert codes[name] == 200


# ---- questions --------------------------------------------------------------------------------------------


def test_questions_are_in_the_inbox_of_whom_they_are_put_to(ann):
    ben = Caller(make_key("acme", "operator", "ben"))
    submit("t1", "ask", payload={"approvers": ["ann"]})
    submit("t2", "ask")
    submit("t3", task_execution_mode="hybrid")
    submit("t4", task_verification_subject_id="ann")
    run()
    assert (ids(ann, "approvals"), ids(ben, "approvals")) == (["t1"], ["t2"])
    assert (ids(ann, "assignments"), ids(ben, "assignments")) == ([], ["t3"])
    say(ann, "start", "t4")
    assert say(ann, "complete", "t4", result=1).json()["status"] == "awaiting_verification"
    found = ann.get("/api/v1/inbox").json()
    assert [(task["task_id"], task["waiting_for"]["about"]) for task in found["verifications"]] == [("t4", "verification")]
    assert (found["subject_id"], found["more"]) == ("ann", False)


def test_a_sub_task_for_named_people_comes_to_one_of_them(ann):
    make_agent("acme", "ada")
    make_task("t1", status="awaiting_approval")
    part = {
        "sub_task_id": "s1", "task_id": "t1", "sub_task_goal": "read it", "sub_task_intent": "x", "sub_task_priority_value": 0,
        "parent_subject_ids": ["ada"], "assigned_subject_ids": ["ann"],
    }  # fmt: skip
    assert ann.post("/internal/process-task?wait=0", {"type": "sub_task", "data": part}).status_code == 202
    run()
    assert ids(ann, "to_do") == ["s1"]


def test_a_key_without_a_subject_has_no_inbox_and_another_orgs_person_finds_nothing(ann):
    submit("t1")
    run()
    assert Caller(make_key("acme", "operator")).get("/api/v1/inbox").json()["code"] == "nobodys_inbox"
    stranger = Caller(make_key("other", "org_admin", "ann"))
    assert stranger.get("/api/v1/inbox").json()["to_do"] == []
    assert (ann.get("/api/v1/inbox/t1").status_code, stranger.get("/api/v1/inbox/t1").status_code) == (200, 404)
    for act in ("start", "complete", "decline"):
        foreign, missing = say(stranger, act), say(stranger, act, "none")
        assert (foreign.status_code, {**foreign.json(), "request_id": ""}) == (404, {**missing.json(), "request_id": ""})


@pytest.mark.parametrize(
    ("act", "body", "field"),
    [("progress", {}, "percent"), ("progress", {"percent": 101}, "percent"), ("progress", {"percent": True}, "percent"),
     ("progress", {"percent": 1, "message": 1}, "message"), ("start", {"x": 1}, "x"), ("decline", {"reason": "x" * 4001}, "reason"),
     ("fail", {"reason": None}, "reason"), ("complete", {"results": 1}, "results")],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_and_the_field_is_named(ann, act, body, field):
    submit("t1")
    run()
    response = ann.post(f"/api/v1/inbox/t1/{act}", body)
    assert (response.status_code, response.json()["errors"][0]["field"], row().status) == (422, field, "dispatched")


# ---- pages ------------------------------------------------------------------------------------------------


def signed_in(subject_id: str = "ann", *, enforce_csrf_checks: bool = False) -> Client:
    user = User.objects.create_user(f"user-{subject_id}")
    Login.objects.create(user=user, subject=Subject.objects.get(org_id="acme", subject_id=subject_id))
    client = Client(enforce_csrf_checks=enforce_csrf_checks)
    client.force_login(user)
    return client


def test_who_is_not_signed_in_is_asked_to_and_who_is_nobody_is_told(client, ann):
    for path in ("/inbox/", "/inbox/tasks/t1"):
        response = client.get(path)
        assert (response.status_code, response["Location"]) == (302, f"/inbox/login?next={path}")
    assert client.post("/inbox/tasks/t1/approve").status_code == 302
    client.force_login(User.objects.create_user("nobody"))
    assert client.get("/inbox/").status_code == 403


def test_a_sign_in_opens_the_inbox_and_a_wrong_password_does_not(client, ann, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    user = User.objects.create_user("ann-user", password="correct-horse")
    Login.objects.create(user=user, subject=Subject.objects.get(subject_id="ann"))
    wrong = client.post("/inbox/login", {"username": "ann-user", "password": "x"})
    assert "do not match" in wrong.text
    right = client.post("/inbox/login?next=https://evil.example/", {"username": "ann-user", "password": "correct-horse", "next": "//evil"})
    assert right["Location"] == "/inbox/"
    assert "Nothing waits for you" in client.get("/inbox/").text


def test_a_person_does_everything_on_the_pages(ann):
    browser = signed_in()
    make_agent("acme", "ada")
    configure(agent_resolution_strategy="static", static_head_agent_subject_id="ann", approval_approver_role_type="SCOUTING")
    submit("t1", "ask", task_verification_subject_id="ann", task_goal="Read <script>alert(1)</script> & answer")
    submit("t2", "yes", task_execution_mode="hybrid")

    def act(name: str, task_id: str = "t1", **form):
        return browser.post(f"/inbox/tasks/{task_id}/{name}", form, follow=True)

    home = browser.get("/inbox/").text
    assert "Waiting for your approval" in home and "&lt;script&gt;alert(1)" in home and "<script>alert" not in home
    assert "May this run?" in browser.get("/inbox/tasks/t1").text
    assert "is required" in act("reject").text and row().status == "awaiting_approval"
    assert "t1: approved" in act("approve", reason="fine").text
    run()
    page = browser.get("/inbox/tasks/t2").text
    assert "Who shall do it?" in page and 'value="ann" selected' in page
    assert "t2: assigned" in act("assign", "t2", subject_id="ada").text
    assert row("t2").head_agent_subject_id == "ada"
    assert "Yours to do" in browser.get("/inbox/tasks/t1").text
    assert "Hand in" in act("start").text
    assert "from 0 to 100" in act("progress", percent="150").text
    assert "30 %" in act("progress", percent="30", message="page 3").text
    assert "is not JSON" in act("complete", result="{", as_json="1").text
    assert "t1: handed in" in act("complete", result="forty-two").text
    assert row().result == {"text": "forty-two"}
    assert "Is the result right?" in browser.get("/inbox/tasks/t1").text
    act("send-back", reason="of what?\nall of it")
    run()
    act("start")
    assert "of what?<br>all of it" in browser.get("/inbox/tasks/t1").text
    act("complete", result='{"n": 42}', as_json="1")
    assert "t1: the result is accepted" in act("accept-result").text
    assert (row().status, row().result) == ("completed", {"n": 42})
    assert "Lately" in browser.get("/inbox/").text
    late = act("accept-result")
    assert late.status_code == 200 and "no result that waits" in late.text
    assert browser.get("/inbox/tasks/none").status_code == 404
    assert browser.post("/inbox/tasks/t1/explode").status_code == 404
    back = browser.get("/inbox/tasks/t1/approve")
    assert (back.status_code, back["Location"]) == (302, "/inbox/tasks/t1")


def test_what_was_typed_is_still_there_when_it_is_refused(ann):
    browser = signed_in()
    configure(agent_resolution_strategy="static", static_head_agent_subject_id="ann")
    submit("t1")
    run()
    browser.post("/inbox/tasks/t1/start")

    def refused(act: str, status: int = 422, **form) -> str:
        response = browser.post(f"/inbox/tasks/t1/{act}", form)
        assert response.status_code == status
        return response.text

    page = refused("complete", result="{an hour's <work>", as_json="1")
    assert "The result is not JSON: unexpected character, expected a string key at line 1, column 2.<" in page
    assert ">{an hour&#x27;s &lt;work&gt;</textarea>" in page and 'value="1" checked' in page
    page = refused("progress", percent="150", message="page 3 of 7")
    assert 'value="150"' in page and 'value="page 3 of 7"' in page
    assert '<details class="card" open>' in refused("fail", reason="  ")
    # What the browser counts as 1,000 characters fits, although it sends two for the end of each line.
    assert browser.post("/inbox/tasks/t1/fail", {"reason": "a line\r\n" * 142 + "!" * 6}).status_code == 302
    assert row().reason.count("\r") == 0 and row().status == "failed"


def test_a_proposal_is_what_the_page_offers_first_however_many_candidates_there_are(ann, monkeypatch):
    monkeypatch.setattr("apps.people.views.CHOICES_MAX", 2)
    configure(agent_resolution_strategy="static", static_head_agent_subject_id="zoe", approval_approver_role_type="SCOUTING")
    for name in ("bea", "cy", "zoe"):
        make_agent("acme", name, subject_type="human")
    submit("t1", task_execution_mode="hybrid")
    run()
    browser = signed_in()
    page = browser.get("/inbox/tasks/t1").text
    assert re.findall(r'<option value="(\w*)"', page) == ["ann", "zoe"] and '"zoe" selected' in page and "the first 2 of 4" in page
    Subject.objects.filter(subject_id="zoe").update(is_active=False)
    directory.changed("acme")
    page = browser.get("/inbox/tasks/t1").text
    assert re.findall(r'<option value="(\w*)"', page) == ["", "ann", "bea"] and "selected" not in page


def test_the_pages_are_safe_to_look_at(ann):
    submit("t1")
    run()
    browser = signed_in(enforce_csrf_checks=True)
    for path in ("/inbox/", "/inbox/tasks/t1", "/inbox/login"):
        response = browser.get(path, follow=True)
        policy = response["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "script" not in policy and "frame-ancestors 'none'" in policy
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=", response.text)
        assert (response["X-Frame-Options"], response["X-Content-Type-Options"]) == ("DENY", "nosniff")
        assert response["Referrer-Policy"] == "same-origin"
    assert browser.get("/inbox/")["Cache-Control"] == "no-store"
    for path in ("/inbox/tasks/t1/start", "/inbox/logout", "/api/v1/inbox/t1/start"):
        assert browser.post(path).status_code == 403
    assert row().status == "dispatched"


def test_a_session_opens_the_api_of_the_inbox_and_no_other(ann):
    submit("t1")
    run()
    browser = signed_in(enforce_csrf_checks=True)
    assert [task["task_id"] for task in browser.get("/api/v1/inbox").json()["to_do"]] == ["t1"]
    assert browser.get("/api/v1/tasks").status_code == 401
    assert browser.get("/api/v1/inbox/t1").json()["entry"]["task_job_submission_data"] == {"wish": "yes"}
    submit("t2", "ask")
    assert browser.get("/api/v1/inbox/t2").status_code == 404  # put to operators
    browser.get("/inbox/")
    token = browser.cookies["csrftoken"].value
    answer = browser.post("/api/v1/inbox/t1/start", "{}", "application/json", headers={"X-CSRFToken": token})
    assert answer.json()["status"] == "running"


@pytest.mark.parametrize("gone", [Subject.objects.filter(subject_id="ann"), Org.objects.filter(pk="acme")], ids=["person", "org"])
def test_who_is_let_go_sees_nothing_any_more(ann, gone):
    browser = signed_in()
    gone.update(is_active=False)
    assert (browser.get("/inbox/").status_code, browser.get("/api/v1/inbox").status_code) == (403, 401)


def test_what_a_person_is_given_by_hand_is_in_the_inbox(ann):
    make_agent("acme", "ada")
    submit("t1", task_execution_mode="hybrid")
    run()
    olga = Caller(make_key("acme", "operator", "olga"))
    assert olga.post("/api/v1/tasks/t1/assign", {"subject_id": "ann"}).json()["reason"] == "in the inbox of ann"
    assert ids(ann, "to_do") == ["t1"] and say(ann, "start").json()["status"] == "running"


def test_the_list_is_short_and_says_so(ann, monkeypatch):
    monkeypatch.setattr("apps.people.inbox.SHOWN", 2)
    for n in range(4):
        submit(f"q{n}", "ask", payload={"approvers": ["ann"]})
    submit("other", "ask")
    found = ann.get("/api/v1/inbox").json()
    assert ([task["task_id"] for task in found["approvals"]], found["more"]) == (["q0", "q1"], True)


def test_admins_link_people_and_only_people(admin_client, ann):
    make_agent("acme", "ada")
    user = User.objects.create_user("anna")
    path = "/admin/people/login/add/"
    agent = admin_client.post(path, {"user": user.pk, "subject": Subject.objects.get(subject_id="ada").pk})
    assert "Only a subject of type human" in agent.text
    assert admin_client.post(path, {"user": user.pk, "subject": Subject.objects.get(subject_id="ann").pk}).status_code == 302
    assert Login.objects.get().subject.subject_id == "ann"
    from apps.orgs.models import Change

    assert Change.objects.filter(org_id="acme", key="ann").latest("id").new == {"sign_in": {"user": "anna"}}
    assert people.OPERATORS.startswith("@")
