"""Policies that answer over HTTP: what a good service gets and says, and that a bad one never lets a task in."""

from __future__ import annotations

import importlib.util
import json
import threading
from datetime import timedelta

import pytest
import standardwebhooks

from apps.core import clock, signatures
from apps.dsl import scripts
from apps.dsl.models import PolicyRun
from apps.dsl.policies import Hook
from apps.dsl.runner import PolicyRequest, PolicyRunner
from apps.tasks.models import Task
from apps.tasks.states import TaskStatus
from jobplatform.env import BASE_DIR
from tests.factories import NOON
from tests.integration.remote_policies.conftest import submit
from tests.integration.remote_policies.service import SECRET, answering, http
from tests.lying_server import dripping, saying

YES = {"output": {"accepted": True, "reason": "the service likes it"}}
TASK = {"task_id": "t", "goal": "g", "priority": 3}


def decide(hook: Hook, script_id: str, inputs=None, **fields):
    request = PolicyRequest(
        org_id="acme", task_key="acme/t", script_id=script_id, input=inputs or {"task": TASK}, timeout_ms=200, config_version=1, **fields
    )
    return PolicyRunner().decide_many(hook, [request], now=NOON)[0]


def test_a_remote_policy_is_asked_as_documented_and_its_answer_decides(serve, org_of):
    asked = []
    server = serve(answering(lambda question: asked.append(question) or YES))
    org_of(server, approval_dsl_id="remote:risk/gate@3")
    (verdict,) = submit({"task_id": "t1", "task_goal": "look"})
    assert (verdict.status, verdict.reason) == (TaskStatus.QUEUED, "the service likes it")
    (question,) = asked
    assert (question["script_id"], question["version"], question["hook"]) == ("risk/gate", 3, "approval")
    assert set(question) == {"script_id", "version", "hook", "input"} and question["input"]["task"]["goal"] == "look"
    assert server.requests[0].startswith(b"POST /policy HTTP/1.1\r\n") and b"content-type: application/json" in server.requests[0].lower()


def test_the_run_records_where_it_was_answered_with_what_status_and_how_long_it_took(serve, org_of):
    org_of(serve(answering(lambda _: YES)))
    submit({"task_id": "t1"})
    org_of(serve(saying(http(503, b"{}"))))
    submit({"task_id": "t2"})
    good, bad = PolicyRun.objects.order_by("task_key")
    assert (good.place, good.http_status, good.script_id, good.error, good.output["accepted"]) == ("remote", 200, "remote:gate", "", True)
    assert (bad.place, bad.http_status, bad.output) == ("remote", 503, None) and "status 503" in bad.error
    assert good.duration_us > 0 and bad.duration_us > 0


@pytest.mark.parametrize(
    ("hook", "output", "inputs"),
    [
        (Hook.APPROVAL, {"accepted": False, "reason": "no"}, {"task": TASK}),
        (Hook.PRIORITY, {"priority": 7}, {"task": TASK}),
        (Hook.AUCTION_INPUT, {"bid_window_ms": 100, "rule": "second_price"}, {"task": TASK}),
        (Hook.PLAN_RETRIEVE, {"head_agent_subject_id": "bo"}, {"task": TASK, "candidates": [{"subject_id": "ada"}, {"subject_id": "bo"}]}),
    ],
)
def test_all_four_questions_may_be_answered_elsewhere(serve, org_of, hook, output, inputs):
    asked = []
    org_of(serve(answering(lambda question: asked.append(question) or {"output": output})))
    decision = decide(hook, "remote:any", inputs)
    assert decision.error == "" and decision.output.items() >= output.items() and decision.place == "remote"
    assert asked[0]["hook"] == hook and asked[0]["input"] == inputs


def test_a_task_may_name_another_remote_policy_than_its_org(serve, org_of):
    names = []
    org_of(serve(answering(lambda question: names.append(question["script_id"]) or YES)), approval_dsl_id="approval/default")
    submit({"task_op_convertor_dsl_id": "remote:for/this-one"})
    assert names == ["for/this-one"]


def test_an_org_may_run_all_its_scripts_elsewhere(serve, org_of):
    asked = []
    org_of(serve(answering(lambda question: asked.append(question) or YES)), dsl_execution="remote", approval_dsl_id="house/gate")
    scripts.register(org_id="acme", script_id="house/gate", hook="approval", source="def approve(task):\n    return {'accepted': False}\n",
                     by="tests", now=NOON, activate=True)  # fmt: skip
    assert submit()[0].status == TaskStatus.QUEUED
    assert (asked[0]["script_id"], asked[0]["version"]) == ("house/gate", 1)


# ---- a bad service never lets a task in ---------------------------------------------------------------------

REFUSED = saying(b"")
WRONG = {
    "it says 500": saying(http(500, json.dumps(YES).encode())),
    "it says 404": saying(http(404, json.dumps(YES).encode())),
    "it says 201": saying(http(201, json.dumps(YES).encode())),
    "not JSON": saying(http(200, b"yes")),
    "nothing": saying(http(200, b"")),
    "a list": saying(http(200, b"[]")),
    "the answer without its envelope": saying(http(200, b'{"accepted": true}')),
    "output and error": saying(http(200, b'{"output": {"accepted": true}, "error": "x"}')),
    "an error": saying(http(200, b'{"error": "the model is not loaded"}')),
    "accepted 1": saying(http(200, b'{"output": {"accepted": 1}}')),
    "accepted yes": saying(http(200, b'{"output": {"accepted": "true"}}')),
    "accepted twice": saying(http(200, b'{"output": {"accepted": false, "accepted": true}}')),
    "no accepted": saying(http(200, b'{"output": {}}')),
    "output null": saying(http(200, b'{"output": null}')),
    "output a list": saying(http(200, b'{"output": [true]}')),
    "NaN": saying(http(200, b'{"output": {"accepted": true, "x": NaN}}')),
    "too deep": saying(http(200, b'{"output": {"accepted": true, "x": ' + b"[" * 40 + b"]" * 40 + b"}}")),
    "cut off": saying(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"output": {"accepted": true}}'),
    "another protocol": saying(b"+OK\r\n"),
}


def held(verdict, word: str = "") -> bool:
    task = Task.objects.get(pk=verdict.key)
    run = PolicyRun.objects.get(task_key=verdict.key)
    assert run.output is None and run.place == "remote" and word in run.error, run.error
    return verdict.status == TaskStatus.AWAITING_APPROVAL == task.status and "gave no verdict" in verdict.reason


def test_a_remote_policy_that_is_refused_never_accepts(serve, org_of):
    gone = serve(REFUSED)
    gone.close()
    org_of(gone)
    assert held(submit()[0], "refused")
    org_of(serve(REFUSED))
    assert held(submit()[0], "refused")


def test_a_remote_policy_that_is_slow_never_accepts(serve, org_of):
    body = json.dumps(YES).encode()
    slow = serve(dripping(lambda: slow, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + body, b" "))
    org_of(slow, dsl_remote_timeout_ms=200)
    assert held(submit()[0], "timeout")  # it would never end


@pytest.mark.parametrize("how", WRONG)
def test_a_remote_policy_that_is_wrong_never_accepts(serve, org_of, how):
    server = serve(WRONG[how])
    org_of(server)
    assert held(submit()[0])
    assert server.requests


def test_a_remote_policy_that_is_huge_never_accepts(serve, org_of):
    org_of(serve(saying(http(200, b'{"output": {"accepted": true, "x": "' + b"x" * 70_000 + b'"}}'))))
    assert held(submit()[0], "too_large")
    endless = serve(dripping(lambda: endless, b'HTTP/1.1 200 OK\r\n\r\n{"output": {"accepted": true}', b" " * 8192, pause_s=0))
    org_of(endless)
    assert held(submit()[0], "too_large")


def test_a_remote_policy_that_is_redirected_never_accepts(serve, org_of):
    yes = serve(answering(lambda _: YES))
    org_of(serve(saying(http(307, b"", {"Location": yes.url}))))
    assert held(submit()[0], "redirect")
    assert yes.requests == []


def test_a_remote_policy_inside_our_network_is_never_asked(serve, org_of):
    yes = serve(answering(lambda _: YES))
    org_of(yes, outbound_allow=[])
    assert held(submit()[0], "unsafe")
    assert yes.connections == 0


def test_a_remote_policy_without_address_or_secret_never_accepts(serve, org_of):
    org_of(None)
    assert held(submit()[0], "not configured")
    yes = serve(answering(lambda _: YES))
    org_of(yes, dsl_remote_secret=None)
    assert held(submit()[0], "not configured")
    assert yes.connections == 0


@pytest.mark.parametrize("name", ["remote:", "remote:../x", "remote:a b", "remote:a@0", "remote:a@x", "remote:" + "x/" * 9 + "x"])
def test_a_name_that_no_remote_policy_can_have_never_accepts(serve, org_of, name):
    yes = serve(answering(lambda _: YES))
    org_of(yes, approval_dsl_id=None)
    decision = decide(Hook.APPROVAL, name)
    assert decision.output is None and decision.error and yes.connections == 0


# ---- signatures ---------------------------------------------------------------------------------------------


def test_every_question_is_signed_with_a_fresh_id_and_time(serve, org_of):
    ids = []
    server = serve(answering(lambda _: YES))
    org_of(server)
    submit({}, {}, {})
    for request in server.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        given = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if line.startswith("webhook-id"))
        ids.append(given["webhook-id"])
        assert SECRET.encode() not in request
    assert len(set(ids)) == 3


def test_where_answers_must_be_signed_only_a_signed_answer_is_believed(serve, org_of):
    org_of(serve(answering(lambda _: YES, sign=True)), dsl_remote_signed_answers=True)
    assert submit()[0].status == TaskStatus.QUEUED


@pytest.mark.parametrize("trick", ["unsigned", "other secret", "other id", "old", "changed body", "our own question sent back"])
def test_an_answer_that_is_not_signed_right_never_accepts(serve, org_of, trick):
    def speak(connection, request):
        head, _, body = request.partition(b"\r\n\r\n")
        given = {name: value for name, _, value in (line.partition(": ") for line in head.decode().split("\r\n")[1:])}
        answer, message_id, secret, at = json.dumps(YES).encode(), given["webhook-id"], SECRET, NOON
        if trick == "other secret":
            secret = SECRET + "x"
        if trick == "other id":
            message_id = "pol_other"
        if trick == "old":
            at -= timedelta(seconds=signatures.WINDOW_SECONDS + 5)
        headers = {} if trick == "unsigned" else signatures.headers(secret, message_id=message_id, body=answer, now=at)
        if trick == "changed body":
            answer = answer.replace(b"likes", b"loves")
        if trick == "our own question sent back":
            answer, headers = body, {name: given[name] for name in headers}
        connection.sendall(http(200, answer, headers))

    org_of(serve(speak), dsl_remote_signed_answers=True)
    word = "either `output` or `error`" if trick.startswith("our own") else "not believed"
    assert held(submit()[0], word)


# ---- many questions -----------------------------------------------------------------------------------------


def test_the_questions_of_a_batch_go_at_once_a_bounded_number_of_them_over_few_connections(serve, org_of):
    now_inside, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(8)

    def slowly(_question):
        nonlocal now_inside, most
        with lock:
            now_inside += 1
            most = max(most, now_inside)
        together.wait(20)  # one after the other, the first would wait for ever
        with lock:
            now_inside -= 1
        return YES

    server = serve(answering(slowly))
    org_of(server, dsl_remote_timeout_ms=10_000)
    verdicts = submit(*({} for _ in range(64)))
    assert {verdict.status for verdict in verdicts} == {TaskStatus.QUEUED}
    assert 8 <= most <= 16 and server.connections <= 16 and len(server.requests) == 64


def test_after_five_failures_in_a_row_the_service_rests_and_is_tried_again(serve, org_of):
    server = serve(saying(http(500, b""), keep=True))
    org_of(server)
    for _ in range(5):
        assert held(submit()[0], "status 500")
    assert held(submit()[0], "rests")
    assert len(server.requests) == 5
    server._speak = answering(lambda _: YES)
    assert held(submit(now=NOON + timedelta(seconds=5))[0], "rests")
    assert submit(now=NOON + timedelta(seconds=15))[0].status == TaskStatus.QUEUED
    assert submit(now=NOON + timedelta(seconds=15))[0].status == TaskStatus.QUEUED


def test_a_service_that_says_no_to_one_script_goes_on_answering_the_others(serve, org_of):
    server = serve(saying(http(404, b""), keep=True))
    org_of(server)
    for _ in range(7):
        assert held(submit()[0], "status 404")
    assert len(server.requests) == 7


def test_a_service_that_takes_too_long_for_a_batch_is_not_asked_for_ever(serve, org_of, monkeypatch):
    from apps.dsl import remote

    monkeypatch.setattr(remote, "BATCH_SECONDS", 0.2)
    pause = threading.Event()
    server = serve(answering(lambda _: pause.wait(0.15) or YES))
    org_of(server)
    verdicts = submit(*({} for _ in range(60)))
    assert {verdict.status for verdict in verdicts} <= {TaskStatus.QUEUED, TaskStatus.AWAITING_APPROVAL}
    assert sum(verdict.status == TaskStatus.AWAITING_APPROVAL for verdict in verdicts) >= 20


# ---- what an org wants when its policy fails ------------------------------------------------------------------


def test_an_org_may_have_tasks_rejected_when_its_approval_policy_fails(serve, org_of):
    org_of(serve(REFUSED), approval_on_error="reject")
    (verdict,) = submit()
    assert verdict.status == TaskStatus.REJECTED and "gave no verdict" in verdict.reason


@pytest.mark.parametrize(("wish", "priority"), [(None, 4), (-7, -7)])
def test_when_the_priority_policy_fails_the_submitters_or_a_fixed_one_holds(serve, org_of, wish, priority):
    org_of(serve(REFUSED), approval_dsl_id="approval/default", priority_assigner_dsl_id="remote:rank", priority_on_error=wish)
    scripts.register(org_id="", script_id="approval/default", hook="approval", source="def approve(task):\n    return {'accepted': True}\n",
                     by="tests", now=NOON, activate=True)  # fmt: skip
    (verdict,) = submit({"task_priority_value": 4})
    assert verdict.status == TaskStatus.QUEUED and Task.objects.get(pk=verdict.key).priority == priority


# ---- what the documentation shows ---------------------------------------------------------------------------


def test_the_example_server_answers_and_refuses_what_is_not_signed(org_of, settings, monkeypatch):
    monkeypatch.setenv("POLICY_SECRET", SECRET)
    spec = importlib.util.spec_from_file_location("policy_server", BASE_DIR / "examples" / "policy_server.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example.Policies, "log_message", lambda *_: None)
    server = example.ThreadingHTTPServer(("127.0.0.1", 0), example.Policies)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.OUTBOUND_ALLOW = ["127.0.0.1"]
    url = f"http://127.0.0.1:{server.server_port}/"
    org_of(None, dsl_remote_url=url, outbound_allow=["127.0.0.1"])
    now = clock.now()
    assert submit({"task_priority_value": 5}, now=now)[0].status == TaskStatus.QUEUED
    assert submit({"task_priority_value": 100}, now=now)[0].status == TaskStatus.REJECTED
    org_of(None, dsl_remote_url=url, outbound_allow=["127.0.0.1"], dsl_remote_secret="whsec_" + "A" * 32)
    assert held(submit(now=now)[0], "status 401")
    server.shutdown()
    server.server_close()


def test_the_documentation_shows_the_example_server_as_it_is():
    page = (BASE_DIR / "docs" / "policies.md").read_text()
    assert f"```python\n{(BASE_DIR / 'examples' / 'policy_server.py').read_text()}```" in page


def test_libraries_of_standard_webhooks_believe_our_signatures():
    given = signatures.headers(SECRET, message_id="pol_1", body=b'{"a":1}', now=clock.now())
    standardwebhooks.Webhook(SECRET).verify(b'{"a":1}', given)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(b'{"a":2}', given)
