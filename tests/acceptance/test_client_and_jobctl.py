"""The Python clients and jobctl on a whole platform, as their users use them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from jobplatform.env import BASE_DIR
from jobplatform_sdk import AsyncClient, Client
from jobplatform_sdk.client_errors import Conflict, Forbidden, Invalid, NotFound
from tests.processes import wait_until

pytestmark = pytest.mark.acceptance


@pytest.fixture
def sam(org):
    with Client(org.stack.url, org.keys["sam"]) as client:
        yield client


def submitted(client: Client, **do: Any) -> str:
    return client.submit(goal="count these four words", intent="a test", payload={"do": do}, wait=0).task_id


def jobctl(org: Any, *arguments: str, name: str = "sam", typed: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "JOBPLATFORM_URL": org.stack.url,
        "JOBPLATFORM_API_KEY": org.keys[name],
        "PYTHONPATH": str(BASE_DIR / "sdk"),
    }
    command = [sys.executable, "-m", "jobplatform_sdk.cli", *arguments]
    return subprocess.run(command, env=environment, input=typed, capture_output=True, text=True, timeout=120)


def documents(run: subprocess.CompletedProcess[str]) -> list[Any]:
    return [json.loads(line) for line in run.stdout.splitlines()]


# ---- the clients ------------------------------------------------------------------------------------------


def test_a_task_is_submitted_awaited_and_explained(org, sam):
    submission = sam.submit(goal="count these four words", intent="a test", priority=4, payload={"text": "x"}, wait=20)
    assert submission.accepted and submission.subject_id in {"ada", "bo"}
    task = sam.wait(submission.task_id, timeout=60)
    assert (task.status, task.result["words"], task.agent) == ("completed", 4, submission.subject_id)
    assert task.submitter_subject_id == f"{org.org_id}:sam" and task.priority == 4
    assert task.times.created <= task.times.assigned <= task.times.finished
    assert task.assignment.agent == task.agent and task.assignment.because
    history = sam.events(task.task_id)
    assert [item.data["status"] for item in history if item.kind == "transition"][-1] == "completed"
    assert {item.kind for item in history} >= {"policy", "transition", "assignment"}


def test_the_same_again_is_the_same_task_and_another_body_is_a_conflict(sam):
    first = sam.submit(goal="g", intent="i", wait=0)
    again = sam.submit(goal="g", intent="i", task_id=first.task_id, wait=0)
    assert again.repeated and not first.repeated
    with pytest.raises(Conflict):
        sam.submit(goal="another", intent="i", task_id=first.task_id)


def test_a_bad_entry_says_every_field(sam):
    with pytest.raises(Invalid) as caught:
        sam.submit(goal="", intent="i", priority=5000, colour="blue")
    assert {error.field for error in caught.value.errors} == {"task_goal", "task_priority_value", "colour"}


def test_another_orgs_task_is_as_missing_as_one_that_never_was(sam, make_org, stack):
    task_id = submitted(sam)
    with Client(stack.url, make_org().keys["sam"]) as other:
        for one in (task_id, "never-was"):
            with pytest.raises(NotFound) as caught:
                other.get(one)
            assert caught.value.sentence == "Not found."


def test_following_tells_the_way_of_a_task_to_its_end(org, sam):
    gate = org.gate()
    task_id = submitted(sam, **gate.do(progress=[25, 75]))
    events, percents = [], []
    for event in sam.follow(task_id, timeout=60):
        events.append(event)
        # What was reported before we came is in the task itself; of two reports in quick succession the newer one may be told alone.
        if event.kind in {"task", "progress"} and event.percent:
            percents.append(event.percent)
            gate.open(event.percent)
            if event.percent == 75:
                gate.open()
    assert events[0].kind == "task"
    assert percents == sorted(percents) and set(percents) == {25, 75}
    assert events[-1].ended and events[-1].status == "completed" and events[-1].result["words"] == 4
    assert [event.status for event in sam.follow(task_id)] == ["completed"]


def test_many_tasks_are_submitted_followed_and_listed(sam, org):
    count = 120 if org.stack.tasks_url else 600
    entries = [{"task_id": f"many-{number}", "goal": "g", "intent": "i"} for number in range(count)]
    news = sam.follow_all(timeout=120)
    assert next(news).kind == "summary"
    verdicts = list(sam.submit_many(entries))
    assert [verdict.line for verdict in verdicts] == list(range(1, count + 1))
    assert all(verdict.accepted for verdict in verdicts)
    left = {entry["task_id"] for entry in entries}
    for event in news:
        if event.ended:
            left.discard(event.task_id)
        if not left:
            break
    assert left == set()
    assert all(verdict.repeated and verdict.status == "completed" for verdict in sam.submit_many(entries))
    assert sum(1 for _ in sam.tasks(status="completed", q="many-", page_size=50)) == count


def test_cancelling_a_running_task_ends_the_wait_for_it(sam):
    task_id = submitted(sam, seconds=60)
    for event in sam.follow(task_id):
        if event.status == "running":
            assert sam.cancel(task_id, "enough").status == "cancelled"
    assert sam.wait(task_id, timeout=30).reason == "enough"
    with pytest.raises(TimeoutError):
        sam.wait(task_id := submitted(sam, seconds=60), timeout=0.5)
    sam.cancel(task_id)


def test_only_an_operator_lets_a_held_task_in(org, sam):
    task_id = sam.submit(goal="g", intent="i", execution_mode="manual", wait=0).task_id
    with pytest.raises(Forbidden):
        sam.approve(task_id)
    with Client(org.stack.url, org.keys["olga"]) as olga:
        assert olga.approve(task_id, "looks fine").reason == "looks fine"
        with pytest.raises(Conflict):
            olga.reject(task_id)
        assert olga.assign(task_id, "ada").assignment.strategy == "manual"
    assert sam.wait(task_id, timeout=60).completed


def test_the_asynchronous_client_does_the_same(org):
    async def story() -> None:
        async with AsyncClient(org.stack.url, org.keys["sam"]) as client:
            submissions = await asyncio.gather(*(client.submit(goal="two words", intent="i", wait=20) for _ in range(8)))
            tasks = await asyncio.gather(*(client.wait(one.task_id, timeout=60) for one in submissions))
            assert [task.result["words"] for task in tasks] == [2] * 8
            events = [event async for event in client.follow(tasks[0].task_id)]
            assert [event.status for event in events] == ["completed"]
            verdicts = [verdict async for verdict in client.submit_many({"goal": "g", "intent": "i"} for _ in range(5))]
            assert all(verdict.accepted for verdict in verdicts)
            listed = [task.task_id async for task in client.tasks(limit=5)]
            assert set(listed) == {verdict.task_id for verdict in verdicts}

    asyncio.run(story())


# ---- jobctl -----------------------------------------------------------------------------------------------


def test_jobctl_submits_one_task_and_waits_for_it(org):
    run = jobctl(org, "submit", "--goal", "three words here", "--intent", "a test", "--wait", "60", "--json")
    assert run.returncode == 0, run.stderr
    [task] = documents(run)
    assert (task["status"], task["result"]["words"]) == ("completed", 3)
    failing = ("--payload", '{"do": {"fail": {"attempts": 9, "retryable": false}}}')
    run = jobctl(org, "submit", "--goal", "g", "--intent", "i", *failing, "--wait", "60")
    assert run.returncode == 1
    assert "failed" in run.stdout.splitlines()[-1]


def test_jobctl_submits_a_file_and_watches_it_to_the_end(org):
    lines = [{"goal": "one two", "intent": "i", "payload": {"do": {"seconds": 0.05}}} for _ in range(40)]
    typed = "".join(json.dumps(line) + "\n" for line in lines)
    run = jobctl(org, "bulk", "-", "--watch", "--timeout", "90", "--json", typed=typed)
    assert run.returncode == 0, run.stderr
    *_, last = documents(run)
    assert last == {"ended": {"tasks": 40, "statuses": {"completed": 40}}}


def test_jobctl_names_the_lines_that_are_no_good(org):
    run = jobctl(org, "bulk", "-", typed='{"goal": "g", "intent": "i"}\n{"goal": "g"}\nnonsense\n')
    assert run.returncode == 3
    first, *refused = run.stdout.splitlines()
    assert first.endswith("1 accepted, 2 invalid")
    assert "line 2" in refused[0] and "task_intent: is required" in refused[0]
    assert "line 3" in refused[1] and "not JSON" in refused[1]


def test_jobctl_watches_shows_and_cancels(org, sam):
    slow, quick = submitted(sam, seconds=60), submitted(sam, progress=[50])
    wait_until(lambda: sam.get(slow).status == "running", what="running")
    run = jobctl(org, "cancel", slow, "nope", "--reason", "enough")
    assert (run.returncode, run.stdout) == (3, f"{slow}  cancelled\n")
    assert run.stderr == "jobctl: nope: Not found.\n"
    run = jobctl(org, "watch", slow, quick, "--timeout", "60")
    assert run.returncode == 1
    assert jobctl(org, "watch", quick, "--timeout", "60").returncode == 0
    shown = jobctl(org, "show", quick).stdout
    for words in ("count these four words", "least_loaded: ", '"words": 4', "progress  50% at 50", "completed"):
        assert words in shown
    [listed] = documents(jobctl(org, "tasks", "--status", "cancelled", "--prefix", slow, "--json"))
    assert listed["task_id"] == slow and listed["reason"] == "enough"


def test_jobctl_lets_a_held_task_in(org, sam):
    task_id = sam.submit(goal="g", intent="i", execution_mode="manual", wait=0).task_id
    assert jobctl(org, "approve", task_id).returncode == 3
    assert jobctl(org, "approve", task_id, name="olga").returncode == 0
    assert jobctl(org, "assign", task_id, "--to", "ada", name="olga").returncode == 0
    assert sam.wait(task_id, timeout=60).completed
