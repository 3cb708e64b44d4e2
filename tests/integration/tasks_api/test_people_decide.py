"""What people decide: approvals, the choice of a head agent, verification; who may, until when, and one winner of many."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.core import clock
from apps.messaging.envelope import AgentReport, ReportKind
from apps.orgs.config_store import OrgConfigProvider
from apps.roles.models import Role, SubjectRole
from apps.tasks import people, steering
from apps.tasks.executor import JobExecutor
from apps.tasks.models import Assignment, Decision, Task
from apps.tasks.results import ReportDesk
from apps.tasks.states import TERMINAL
from apps.tasks.sweeper import Sweeper
from tests.factories import make_agent, make_entry, make_key
from tests.integration.tasks_api.conftest import Caller, configure, register
from tests.threads import at_once

pytestmark = pytest.mark.store

ASK = """
def approve(task):
    return {"accepted": None, "reason": "ask", "approvers": task["payload"].get("approvers"),
            "expires_in_s": task["payload"].get("expires"), "escalate_after_s": task["payload"].get("up"),
            "escalate_to": task["payload"].get("then")}
"""


def key_of(subject: str = "", role: str = "submitter") -> Caller:
    return Caller(make_key("acme", role, subject))


@pytest.fixture
def house(acme):
    register("approval/ask", "approval", ASK)
    configure(approval_dsl_id="approval/ask", verification_required=True)


def held(task_id: str = "t1", by: Caller | None = None, **payload) -> None:
    entry = make_entry(task_id=task_id, task_job_submission_data=payload)
    response = (by or key_of("sam")).post("/api/v1/tasks", entry)
    assert (response.status_code, response.json()["status"]) == (201, "awaiting_approval"), response.content


def row(task_id: str = "t1") -> Task:
    return Task.objects.get(pk=f"acme/{task_id}")


def decided(kind: str, task_id: str = "t1") -> list[tuple[str, str]]:
    return list(Decision.objects.filter(task_key=f"acme/{task_id}", kind=kind).order_by("id").values_list("outcome", "because"))


def post(who: Caller, verb: str, task_id: str = "t1", **body) -> int:
    return who.post(f"/api/v1/tasks/{task_id}/{verb}", body or None).status_code


# ---- approval ---------------------------------------------------------------------------------------------


def test_without_named_approvers_operators_decide_and_it_is_on_the_record(house):
    held()
    waiting = key_of().get("/api/v1/tasks/t1").json()["waiting_for"]
    assert (waiting["about"], waiting["of"], waiting["escalated"], waiting["decide_by"]) == ("approval", ["@operators"], False, None)
    assert post(key_of("sam"), "approve") == 403
    operator = key_of("olga", "operator")
    assert operator.post("/api/v1/tasks/t1/approve", {"reason": "looks fine"}).json()["status"] == "queued"
    (made,) = Decision.objects.filter(task_key="acme/t1")
    assert (made.kind, made.outcome, made.because, made.details["of"]) == ("approval", "approved", "looks fine", ["@operators"])
    assert made.actor.startswith("olga (key ")
    told = [item for item in operator.get("/api/v1/tasks/t1/events").json()["items"] if item["kind"] == "decision"]
    assert [(item["decided"], item["outcome"]) for item in told] == [("approval", "approved")]
    assert operator.post("/api/v1/tasks/t1/approve").json()["code"] == "not_awaiting_approval"


@pytest.mark.parametrize("approvers", [["ann"], ["acme:ann"], ["role:LEAD"]])
def test_only_those_named_decide(house, approvers):
    make_agent("acme", "ann", role_id="leads", role_type="LEAD", subject_type="human")
    make_agent("acme", "bea", role_id="scouts", subject_type="human")
    held(approvers=approvers)
    for other in (key_of("bea"), key_of("", "operator"), key_of("", "org_admin")):
        assert other.post("/api/v1/tasks/t1/approve").json()["code"] == "not_yours"
    assert Caller(make_key("acme", "agent", "ada")).post("/api/v1/tasks/t1/approve").status_code == 404
    assert post(key_of("ann"), "reject", reason="too dear") == 200
    assert (row().status, row().reason, decided("approval")) == ("rejected", "too dear", [("rejected", "too dear")])


@pytest.mark.parametrize("own", ["ann", "acme:ann"])
@pytest.mark.parametrize("named", ["ann", "acme:ann"])
def test_with_the_org_in_front_of_it_a_subject_is_the_same(house, own, named):
    configure(four_eyes=True)
    held(approvers=[named])
    assert post(key_of(own), "approve") == 200
    entry = make_entry(task_id="t2", submitter_subject_id="acme:ann", task_job_submission_data={"approvers": [named]})
    assert key_of("sam").post("/api/v1/tasks", entry).status_code == 201
    assert key_of(own).post("/api/v1/tasks/t2/approve").json()["code"] == "four_eyes"


def test_the_role_of_the_org_approves_when_the_policy_names_nobody(house):
    configure(approval_approver_role_type="LEAD")
    make_agent("acme", "ann", role_id="leads", role_type="LEAD", subject_type="human")
    held()
    assert post(key_of("", "org_admin"), "approve") == 403
    assert post(key_of("ann"), "approve") == 200


def test_an_agent_that_is_named_approves(house):
    held(approvers=["ada"])
    assert post(Caller(make_key("acme", "agent", "ada")), "approve") == 200


@pytest.mark.parametrize("named", ["acme:olga", "acme:sam"])
def test_with_four_eyes_neither_the_named_submitter_nor_the_real_one_approves(house, named):
    configure(four_eyes=True)
    olga = key_of("olga", "operator")
    entry = make_entry(task_id="t1", submitter_subject_id=named)
    assert olga.post("/api/v1/tasks", entry).json()["status"] == "awaiting_approval"
    assert olga.post("/api/v1/tasks/t1/approve").json()["code"] == "four_eyes"
    assert post(key_of("olga", "operator"), "approve") == 403
    assert post(key_of("otto", "operator"), "approve") == 200


def test_with_four_eyes_a_submitter_may_still_turn_the_own_task_away(house):
    configure(four_eyes=True)
    olga = key_of("olga", "operator")
    held(by=olga)
    assert (post(olga, "reject", reason="a mistake of mine"), row().status) == (200, "rejected")


def test_a_question_nobody_answers_expires(house):
    held(expires=60)
    made = row().created_at
    assert (people.expire(now=made + timedelta(seconds=59)), row().status) == (0, "awaiting_approval")
    assert people.expire(now=made + timedelta(seconds=60)) == 1
    assert (row().status, row().reason.startswith("nobody approved it by ")) == ("expired", True)
    assert decided("approval")[0][0] == "expired"
    assert post(key_of("", "operator"), "approve") == 409


def test_the_orgs_times_hold_when_the_policy_gives_none(house):
    configure(approval_expiry_s=100, approval_escalation_s=10)
    held("t1")
    held("t2", expires=5, up=2)
    for name, expires, up in (("t1", 100, 10), ("t2", 5, 2)):
        task = row(name)
        assert task.decide_by - task.created_at == timedelta(seconds=expires)
        assert task.escalate_at - task.created_at == timedelta(seconds=up)


def test_an_undecided_question_escalates_once_and_then_others_may_decide_too(house):
    held("t1", approvers=["ann"], up=60)
    held("t2", approvers=["ann"], up=60, then=["bea"])
    olga, bea = key_of("olga", "operator"), key_of("bea")
    due = row("t2").created_at + timedelta(seconds=60)
    assert people.escalate(now=row("t1").created_at + timedelta(seconds=59)) == 0
    assert [people.escalate(now=due), people.escalate(now=due)] == [2, 0]
    assert decided("escalation") and len(decided("escalation", "t2")) == 1
    assert row("t2").people["of"] == ["ann", "bea"]
    assert key_of().get("/api/v1/tasks/t2").json()["waiting_for"]["escalated"] is True
    assert (post(olga, "approve", "t2"), post(bea, "approve", "t2")) == (403, 200)
    assert (post(bea, "approve", "t1"), post(olga, "approve", "t1")) == (403, 200)


def test_many_expire_in_one_sweep(house, django_assert_max_num_queries):
    configure(approval_expiry_s=1)
    who = key_of("sam")
    who.bulk(*[make_entry(task_id=f"n{n}") for n in range(60)])
    with django_assert_max_num_queries(14):
        assert people.expire(now=clock.now() + timedelta(seconds=2)) == 60


@pytest.mark.parametrize(
    "answer",
    ['"approvers": "ann"', '"approvers": [1]', '"approvers": ["role:"]', '"expires_in_s": 0', '"escalate_after_s": "soon"',
     '"escalate_to": [""]', '"expires_in_s": True'],
)  # fmt: skip
def test_terms_that_make_no_sense_leave_the_task_to_the_operators(house, answer):
    register("approval/odd", "approval", f'def approve(task):\n    return {{"accepted": None, {answer}}}')
    key_of("sam").post("/api/v1/tasks", make_entry(task_id="t1", task_op_convertor_dsl_id="approval/odd"))
    assert (row().status, row().people["of"]) == ("awaiting_approval", ["@operators"])
    assert "gave no verdict" in row().reason


def test_when_it_escalates_to_those_who_may_decide_already_the_record_says_that_there_is_nobody_else(house):
    held(up=60)
    assert people.escalate(now=row().created_at + timedelta(seconds=60)) == 1
    ((outcome, because),) = decided("escalation")
    assert (outcome, because.endswith("there is nobody else to ask")) == ("nobody_else", True)
    assert (row().people["of"], row().people["escalated"]) == (["@operators"], True)


def test_who_is_let_go_decides_nothing_any_more(house):
    make_agent("acme", "ann", role_id="leads", role_type="LEAD", subject_type="human", is_active=False)
    for name, who in (("t1", "ann"), ("t2", "role:LEAD")):
        held(name, approvers=[who])
        assert key_of("ann").post(f"/api/v1/tasks/{name}/approve").json()["code"] == "not_yours"
    assert key_of("ann").get("/api/v1/inbox").json()["code"] == "let_go"
    assert key_of("ann").post("/api/v1/inbox/t1/start").status_code == 403


# ---- the choice of a head agent ---------------------------------------------------------------------------


def submitted(task_id: str = "t1", mode: str = "auto", **fields) -> None:
    fields = {"task_op_convertor_dsl_id": "approval/test", "task_execution_mode": mode, **fields}
    assert key_of("sam").post("/api/v1/tasks", make_entry(task_id=task_id, **fields)).status_code == 201


def run() -> int:
    return JobExecutor().run_batch(now=clock.now())


def test_a_manual_task_waits_for_approval_and_then_for_a_persons_choice(house, nats):
    make_agent("acme", "bo")
    submitted(mode="manual")
    operator = key_of("olga", "operator")
    assert row().status == "awaiting_approval"
    assert post(operator, "approve") == 200
    run()
    assert (row().status, row().reason) == ("awaiting_assignment", "a person chooses the head agent")
    assert operator.post("/api/v1/tasks/t1/assign").json()["errors"][0]["code"] == "missing"
    assert operator.post("/api/v1/tasks/t1/assign", {"subject_id": "eve"}).json()["errors"][0]["message"] == "is not in the candidate pool"
    assert post(key_of("sam"), "assign", subject_id="bo") == 403
    assert operator.post("/api/v1/tasks/t1/assign", {"subject_id": "bo", "reason": "she knows"}).json()["status"] == "dispatched"
    found = Assignment.objects.get(task_key="acme/t1")
    assert (found.strategy, found.head_agent_subject_id, found.attempt) == ("manual", "bo", 1)
    assert found.because.endswith("chose bo: she knows") and decided("manual_assignment")[0][0] == "chosen"
    assert operator.post("/api/v1/tasks/t1/assign", {"subject_id": "bo"}).json()["code"] == "not_unassigned"


def test_in_mode_hybrid_the_platform_proposes_and_a_person_confirms_or_picks_another(house, nats):
    make_agent("acme", "bo")
    for name in ("t1", "t2"):
        submitted(name, mode="hybrid")
    run()
    operator = key_of("olga", "operator")
    proposal = operator.get("/api/v1/tasks/t1").json()["waiting_for"]["proposal"]
    assert (row("t1").status, proposal["strategy"]) == ("awaiting_assignment", "least_loaded")
    assert post(operator, "assign", "t1") == 200
    assert (row("t1").head_agent_subject_id, decided("manual_assignment")[0][0]) == (proposal["subject_id"], "confirmed")
    other = {"ada": "bo", "bo": "ada"}[row("t2").people["proposal"]["subject_id"]]
    assert post(operator, "assign", "t2", subject_id=other) == 200
    assert (row("t2").head_agent_subject_id, row("t2").status) == (other, "dispatched")
    assert Assignment.objects.get(task_key="acme/t2").decision["proposal"]["subject_id"] != other


def test_whom_the_policy_named_as_approvers_chooses_the_head_agent_too(house, nats):
    entry = make_entry(task_id="t1", task_execution_mode="manual", task_job_submission_data={"approvers": ["ann"], "up": 60})
    assert key_of("sam").post("/api/v1/tasks", entry).json()["status"] == "awaiting_approval"
    ann, olga = key_of("ann"), key_of("olga", "operator")
    assert people.escalate(now=row().created_at + timedelta(seconds=60)) == 1
    assert post(olga, "approve") == 200
    run()
    # Another question: who was asked about the one before it, having escalated, does not count here.
    assert (row().status, row().people["of"], row().people["escalated"]) == ("awaiting_assignment", ["ann"], False)
    assert (post(olga, "assign", subject_id="ada"), post(ann, "assign", subject_id="ada")) == (403, 200)


def test_who_cannot_take_it_is_not_given_it_by_hand_either_and_the_reason_is_told(house, nats):
    make_agent("acme", "bo", role_id="scouts", capabilities=("python",))
    submitted(task_steerability_data={"capabilities": ["python"]})
    olga = key_of("olga", "operator")

    def refused(subject_id: str) -> str:
        answer = olga.post("/api/v1/tasks/t1/assign", {"subject_id": subject_id})
        assert (answer.status_code, answer.json()["code"], row().status) == (409, "not_available", "queued")
        return answer.json()["why"]

    assert "python" in refused("ada")
    assert olga.post("/api/v1/agents/bo/pause", {"reason": "holidays"}).status_code == 200
    assert "holidays" in refused("bo")
    assert olga.post("/api/v1/agents/bo/resume", {}).status_code == 200
    assert post(olga, "assign", subject_id="bo") == 200


def test_a_declined_manual_task_asks_the_person_again(house, nats):
    submitted(mode="hybrid")
    run()
    operator = key_of("olga", "operator")
    assert post(operator, "assign") == 200
    report("declined", reason="not mine")
    make_agent("acme", "bo")
    run()
    assert (row().status, row().people["proposal"]["subject_id"]) == ("awaiting_assignment", "bo")


def test_an_operator_may_assign_a_task_that_is_only_queued(house, nats):
    submitted()
    assert post(key_of("sam"), "assign", subject_id="ada") == 403
    assert post(key_of("olga", "operator"), "assign", subject_id="ada") == 200
    assert (row().status, run(), row().attempt) == ("dispatched", 0, 1)


def test_a_choice_nobody_makes_expires(house, nats):
    configure(approval_expiry_s=60)
    submitted(mode="hybrid")
    run()
    assert people.expire(now=clock.now() + timedelta(seconds=61)) == 1
    assert (row().status, decided("manual_assignment")[0][0]) == ("expired", "expired")


# ---- verification -----------------------------------------------------------------------------------------


def report(kind: str, task_id: str = "t1", **body) -> None:
    task = row(task_id)
    made = AgentReport(
        org_id="acme", task_id=task_id, agent=task.head_agent_subject_id, kind=ReportKind(kind), attempt=task.attempt, seq=1,
        at=clock.now(), **body,
    )  # fmt: skip
    ReportDesk().apply([made], now=clock.now())


def to_verify(task_id: str = "t1", verifier: str = "vera") -> None:
    submitted(task_id, task_verification_subject_id=verifier)
    run()
    report("completed", task_id, result={"n": 7})
    assert row(task_id).status == "awaiting_verification"


def test_a_verified_result_completes_the_task_and_a_rejected_one_fails_it(house, nats):
    to_verify("t1", "acme:vera")
    to_verify("t2")
    vera = key_of("vera")
    assert key_of("", "operator").post("/api/v1/tasks/t1/verify", {"verdict": "accept"}).json()["code"] == "not_yours"
    assert vera.post("/api/v1/tasks/t1/verify", {"verdict": "maybe", "why": 1}).status_code == 422
    assert vera.post("/api/v1/tasks/t1/verify", {"verdict": "accept", "reason": "right"}).json()["result"] == {"n": 7}
    assert post(vera, "verify", "t2", verdict="reject", reason="wrong sums") == 200
    assert (row("t1").status, row("t2").status) == ("completed", "failed")
    assert row("t2").reason == "the verifier rejected the result: wrong sums"
    review = Decision.objects.get(task_key="acme/t2", kind="verification").details["review"]
    assert (review["task_id"], review["review_subject_ids"], review["review_data"]["verdict"]) == ("t2", ["vera"], "reject")
    assert vera.post("/api/v1/tasks/t2/verify", {"verdict": "accept"}).json()["code"] == "not_awaiting_verification"


def test_what_is_sent_back_is_done_again_with_the_notes(house, nats):
    from jobplatform_sdk.task import read_task

    configure(max_attempts=1)
    to_verify()
    assert post(key_of("vera"), "verify", verdict="send_back", reason="of which year?") == 200
    assert (row().status, row().result, row().max_attempts) == ("queued", None, 2)
    run()
    assert (row().status, row().attempt) == ("dispatched", 2)
    import orjson

    from apps.messaging import subjects
    from apps.messaging.consumer import PullConsumer

    *_, message = PullConsumer(subjects.DELIVERIES, subjects.agent_token("acme", "ada")).fetch(10, 0.3)
    task = read_task(orjson.loads(message.data), org_id="acme", task_id="t1")
    assert [note["review_data"]["reason"] for note in task.reviews] == ["of which year?"]
    report("completed", result={"n": 8})
    assert post(key_of("vera"), "verify", verdict="send_back", reason="and of which month?") == 200
    assert [note["review_data"]["attempt"] for note in row().people["reviews"]] == [1, 2]
    run()
    report("completed", result={"n": 9})
    assert post(key_of("vera"), "verify", verdict="accept") == 200


def test_with_four_eyes_nobody_accepts_his_own_work(house, nats):
    configure(four_eyes=True)
    to_verify(verifier="ada")
    ada = Caller(make_key("acme", "agent", "ada"))
    assert ada.post("/api/v1/tasks/t1/verify", {"verdict": "accept"}).json()["code"] == "four_eyes"
    assert post(ada, "verify", verdict="send_back", reason="I was wrong") == 200


def test_an_agent_verifies_by_rest_and_sees_what_it_verifies(house, nats):
    to_verify(verifier="bo")
    bo = Caller(make_key("acme", "agent", "bo"))
    assert bo.get("/api/v1/tasks/t1").json()["result"] == {"n": 7}
    assert Caller(make_key("acme", "agent", "eve")).post("/api/v1/tasks/t1/verify", {"verdict": "accept"}).status_code == 404
    assert post(bo, "verify", verdict="accept") == 200


def test_a_result_nobody_verifies_escalates_and_expires(house, nats):
    configure(verification_escalation_s=60, verification_expiry_s=120)
    to_verify("t1")
    to_verify("t2")
    Sweeper().sweep(now=clock.now() + timedelta(seconds=61))
    assert post(key_of("olga", "operator"), "verify", "t1", verdict="accept") == 200
    Sweeper().sweep(now=clock.now() + timedelta(seconds=121))
    assert (row("t1").status, row("t2").status, decided("verification", "t2")[-1][0]) == ("completed", "expired", "expired")


def test_each_decision_says_which_version_of_the_configuration_it_was_made_with(house, nats):
    configure(approval_expiry_s=60, approval_escalation_s=30)
    olga = key_of("olga", "operator")
    for name in ("approved", "expired"):
        held(name)
    assert post(olga, "approve", "approved") == 200
    assert olga.post("/api/v1/tasks/approved/priority", {"priority": 9}).status_code == 200
    to_verify("verified")
    assert post(key_of("vera"), "verify", "verified", verdict="accept") == 200
    submitted("chosen", mode="hybrid")
    run()
    assert post(olga, "assign", "chosen") == 200
    assert people.escalate(now=clock.now() + timedelta(seconds=31)) == people.expire(now=clock.now() + timedelta(seconds=61)) == 1
    version = OrgConfigProvider().of("acme").version
    made = set(Decision.objects.values_list("kind", "outcome", "config_version"))
    assert version > 0 and made == {
        ("approval", "approved", version), ("priority_change", "by_hand", version), ("verification", "accept", version),
        ("manual_assignment", "confirmed", version), ("escalation", "nobody_else", version), ("approval", "expired", version),
    }  # fmt: skip


# ---- who may (S3, S2) -------------------------------------------------------------------------------------


def test_another_orgs_question_is_as_missing_as_none(house):
    held()
    stranger = Caller(make_key("other", "org_admin", "ann"))
    for verb, body in (("approve", {}), ("reject", {}), ("assign", {"subject_id": "ada"}), ("verify", {"verdict": "accept"})):
        foreign = stranger.post(f"/api/v1/tasks/t1/{verb}", body)
        missing = stranger.post(f"/api/v1/tasks/none/{verb}", body)
        assert foreign.status_code == missing.status_code == 404
        assert {**foreign.json(), "request_id": ""} == {**missing.json(), "request_id": ""}


def test_a_role_held_in_another_space_counts_nowhere_else(house):
    make_agent("acme", "ann", role_id="leads", role_type="LEAD", job_space_id="north", subject_type="human")
    held("t1", approvers=["role:LEAD"], job_space_id="south")
    held("t2", approvers=["role:LEAD"], job_space_id="north")
    assert (post(key_of("ann"), "approve", "t1"), post(key_of("ann"), "approve", "t2")) == (403, 200)
    held("t3", approvers=["role:LEAD"], job_space_id="north")
    SubjectRole.objects.filter(role=Role.objects.get(role_id="leads")).delete()
    assert post(key_of("ann"), "approve", "t3") == 403


# ---- races (S40) ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", ["two approvers", "approve and cancel", "approve and expiry"])
def test_of_two_who_decide_at_once_one_wins(shared_acme, pair):
    register("approval/ask", "approval", ASK)
    configure(approval_dsl_id="approval/ask", approval_expiry_s=60)
    first, second = key_of("olga", "operator"), key_of("otto", "operator")
    names = [f"r{n}" for n in range(6)]
    for name in names:
        held(name)

    def work(index: int):
        for name in names:
            if index == 0:
                post(first, "approve", name, reason="first")
            elif pair == "two approvers":
                post(second, "reject", name, reason="second")
            elif pair == "approve and cancel":
                steering.cancel(row(name), actor="tests", reason="", now=clock.now())
            else:
                people.expire(now=clock.now() + timedelta(seconds=61))

    at_once(2, work)
    for name in names:
        made = decided("approval", name)
        ended = row(name).status
        if pair == "approve and cancel":
            assert ended == "cancelled" and len(made) <= 1  # an approved task may be cancelled afterwards, never the reverse
        else:
            assert len(made) == 1
            assert {"approved": "queued"}.get(made[0][0], made[0][0]) == ended


def test_a_verdict_and_the_expiry_at_once_leave_one_end(shared_acme, nats):
    register("approval/ask", "approval", ASK)
    configure(approval_dsl_id="approval/ask", verification_required=True, verification_expiry_s=60)
    names = [f"v{n}" for n in range(4)]
    for name in names:
        to_verify(name)
    vera = key_of("vera")

    def work(index: int):
        if index:
            people.expire(now=clock.now() + timedelta(seconds=61))
        else:
            [post(vera, "verify", name, verdict="accept") for name in names]

    at_once(2, work)
    for name in names:
        assert row(name).status in TERMINAL
        assert [{"accept": "completed"}.get(outcome, outcome) for outcome, _ in decided("verification", name)] == [row(name).status]
