"""The Task Processing System on a whole platform: the specification's examples as they are written, every state it draws,
every phase of its lifecycle; steps in real Celery workers and with real agents.

docs/spec-map-groups.md maps the sentences of the document to the tests that show them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from jobplatform.env import BASE_DIR
from jobplatform_sdk import AsyncClient, Client
from jobplatform_sdk.client_errors import Conflict, Invalid, NotFound
from tests.acceptance.test_client_and_jobctl import documents, jobctl
from tests.processes import wait_until
from tests.services import Server
from tests.spec_examples import ARRAY, CUSTOM, MATRIX, OBJECTS

pytestmark = pytest.mark.acceptance

SECONDS = 60.0
_ids = itertools.count(1)


@pytest.fixture
def olga(org) -> Iterator[Client]:
    with Client(org.stack.url, org.keys["olga"]) as client:
        yield client


def started(client: Client, **document: Any) -> str:
    return client.create_session({"session_id": f"spec-{next(_ids)}", **document}).session_id


def ended(client: Client, session_id: str) -> Any:
    return client.wait_session(session_id, SECONDS)


def states(client: Client, session_id: str, path: str) -> list[str]:
    return [event["new"] for event in client.session_events(session_id) if event["path"] == path and event["item"] is None]


def step(key: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "agent_class": "Tell", **more}


def away(key: str, **do: Any) -> dict[str, Any]:
    """A step on an agent."""
    return {"key": key, "executor": "agent", "message_template": "count these words", "input": {"do": do}}


# ---- expansion --------------------------------------------------------------------------------------------


def test_the_examples_expand_as_the_document_says_in_workers_and_on_agents(olga):
    document = {
        "tasks": [
            {**ARRAY, "key": "array", "agent_class": "Tell", "message_template": "do {input}"},
            {**OBJECTS, "key": "objects", "agent_class": "TellLater", "message_template": "for {user.name}"},
            {**MATRIX, "key": "matrix", "agent_class": "Tell", "message_template": "{row}{col}"},
            {**CUSTOM, "key": "custom", "agent_class": "Tell"},
            {**ARRAY, "key": "away", "executor": "agent", "message_template": "do {input} now"},
        ]
    }
    session_id = started(olga, **document)
    assert ended(olga, session_id).completed

    def results(key: str) -> list[Any]:
        return [item["result"] for item in olga.session_items(session_id, f"main.{key}", whole=True)]

    assert [one["message"] for one in results("array")] == ["do item1", "do item2", "do item3"]
    assert [one["user"]["id"] for one in results("objects")] == [1, 2, 3]
    assert [one["message"] for one in results("matrix")] == ["A1", "A2", "A3", "B1", "B2", "B3"]
    assert len(results("custom")) in (4, 8) and all(one for one in results("custom"))
    assert [one["words"] for one in results("away")] == [3, 3, 3]  # an agent of its own process did them
    tasks = [item["task_id"] for item in olga.session_items(session_id, "main.away")]
    assert len(set(tasks)) == 3 and {olga.get(task_id).status for task_id in tasks} == {"completed"}
    context = olga.session_results(session_id)["results"]
    assert {"array", "1_array", "2_array", "3_array"} <= context.keys()  # `separate` keeps each result by its item


def test_the_documents_tasks_run_just_as_they_stand_in_it(olga):
    """Neither a key nor an executor: nothing but what the document shows."""
    page = next((Path(__file__).parents[2]).glob("docs/expansion.md")).read_text()
    shown = [json.loads(one) for one in re.findall(r"```json task\n(.*?)```", page, re.S)]
    assert ARRAY in shown
    session_id = started(olga, tasks=[ARRAY, MATRIX])
    assert ended(olga, session_id).completed
    assert [one.counts["total"] for one in olga.session_steps(session_id) if one.kind == "step"] == [3, 6]


# ---- the state diagram of TaskGroup -----------------------------------------------------------------------


def test_every_state_that_is_drawn_is_gone_through(olga):
    """Initialize … ProcessTasks, Expand, Execute, HandleFailure, RetryLogic, WaitDelay, CleanupState and back, PublishResults,
    ValidateResults, TrackResults, UpdateContext, Cleanup."""
    session_id = started(
        olga,
        task_groups=[
            {
                "key": "first",
                "tasks": [
                    step("shaky", input={"fail": {"attempts": 1}, "n": 1}, max_retries=2, retry_delays=[0.2],
                         result_schema={"type": "object", "required": ["n"]}, result_keys=["found"])
                ],
            },
            {"key": "second", "dependencies": ["first"],
             "tasks": [step("use", message_template="got {found.n}"), away("agent")]},
        ],
    )  # fmt: skip
    assert ended(olga, session_id).completed
    assert states(olga, session_id, "") == ["running", "completed"]
    assert states(olga, session_id, "first") == ["running", "completed"]
    drawn = ["expanding", "running", "retrying", "expanding", "running", "completed"]
    assert states(olga, session_id, "first.shaky") == drawn
    assert states(olga, session_id, "second.agent") == ["expanding", "running", "completed"]
    assert olga.session_step(session_id, "first.shaky").attempt == 2
    assert olga.session_results(session_id)["results"]["use"]["message"] == "got 1"
    order = [(event["path"], event["new"]) for event in olga.session_events(session_id)]
    assert order.index(("first", "completed")) < order.index(("second", "running"))


# ---- the lifecycle ----------------------------------------------------------------------------------------


def test_phase_1_initialization_judges_the_whole_document_before_anything_runs(olga):
    wrong = {"session_id": "never", "tasks": [step("a", dependencies=["b"]), step("b", dependencies=["a"]), step("c", dependencies=["c"])]}
    with pytest.raises(Invalid) as caught:
        olga.create_session(wrong)
    assert all(error.field.startswith("tasks[") for error in caught.value.errors)
    assert any("a" in error.message and "b" in error.message for error in caught.value.errors)
    with pytest.raises(NotFound):
        olga.session("never")
    plan = olga.plan_session({"tasks": [{**MATRIX, "key": "m"}, step("end", dependencies=["m"])]})
    assert [(one["path"], one["items"]) for one in plan["steps"]] == [("main.m", 6), ("main.end", 1)]


def test_phase_2_dependencies_decide_the_order_and_independent_groups_run_side_by_side(olga):
    slow = {"seconds": 0.4}
    session_id = started(
        olga,
        task_groups=[
            {"key": "left", "tasks": [away("sow", **slow)]},
            {"key": "right", "tasks": [away("reap", **slow)]},
            {"key": "broken", "on_failure": "skip", "tasks": [step("no", input={"fail": {"attempts": 9}})]},
            {"key": "join", "dependencies": ["left", "right"], "optional_dependencies": ["broken"], "tasks": [step("done")]},
        ],
    )  # fmt: skip
    assert ended(olga, session_id).completed
    steps = {one.path: one for one in olga.session_steps(session_id)}
    sow, reap = steps["left.sow"], steps["right.reap"]
    assert sow.started < reap.finished and reap.started < sow.finished
    assert steps["join"].started >= max(steps["left"].finished, steps["right"].finished, steps["broken"].finished)
    assert steps["broken"].status == "failed"


def test_phase_3_processing_tracks_each_item_and_writes_the_context_once_after_all(olga):
    session_id = started(
        olga,
        context={"numbers": list(range(60))},
        tasks=[
            step("fan", expansion_config={"type": "array", "array_mapping": {"n": "numbers"}, "output_format": "merge", "max_parallel": 8}),
            step("sum", dependencies=["fan"], input={"all": "{fan.results}"}),
        ],
    )
    seen = list(olga.follow_session(session_id, SECONDS))
    assert seen[0].kind == "session" and seen[-1].ended and seen[-1].session.completed
    fan = olga.session_step(session_id, "main.fan")
    assert (fan.counts["total"], fan.counts["completed"]) == (60, 60)
    assert [one["n"] for one in olga.session_results(session_id)["results"]["sum"]["all"]] == list(range(60))
    assert olga.session_step(session_id, "main.fan").data["context_version"] == 2  # the first is what it began with


def test_phase_4_completion_tells_one_result_and_leaves_nothing_in_redis(olga, org):
    session_id = started(olga, tasks=[step("a"), away("b")], result_keys=["a"])
    assert ended(olga, session_id).completed
    first, again = olga.session_results(session_id), olga.session_results(session_id)
    assert first == again and first["final"] and not first["partial"] and list(first["results"]) == ["a"]
    with redis.Redis.from_url(org.stack.state["urls"]["redis"]) as client:
        wait_until(lambda: not [key for key in client.scan_iter() if session_id.encode() in key], what="its keys are gone")
    with Client(org.stack.url, org.keys["ann"]) as ann:
        ann.delete_session(session_id)
        with pytest.raises(NotFound):
            ann.session(session_id)


# ---- errors -----------------------------------------------------------------------------------------------


def test_what_there_is_of_a_result_is_kept_when_something_fails_or_time_runs_out(olga):
    failing = started(olga, tasks=[step("good", result_keys=["kept"]), step("bad", dependencies=["good"], input={"fail": {"attempts": 9}})])
    late = started(olga, timeout_s=1, tasks=[step("good", result_keys=["kept"]), away("slow", seconds=30)])
    assert ended(olga, failing).status == "failed"
    assert ended(olga, late).status == "timed_out"
    for session_id in (failing, late):
        result = olga.session_results(session_id)
        assert result["partial"] and "kept" in result["results"]
        assert {one["path"] for one in result["missing"]} & {"main.bad", "main.slow"}
    assert "as it was told" in json.dumps(olga.session_results(failing)["missing"])


def test_a_session_is_paused_resumed_and_cancelled_and_the_agent_at_work_is_stopped(olga):
    session_id = started(olga, tasks=[away("slow", seconds=60), step("after", dependencies=["slow"])])
    task_id = wait_until(
        lambda: next((item["task_id"] for item in olga.session_items(session_id, "main.slow") if item["task_id"]), None), what="it is out"
    )
    wait_until(lambda: olga.get(task_id).status == "running", what="the agent works")
    assert olga.pause_session(session_id, "wait").status == "paused"
    assert olga.resume_session(session_id).status == "running"
    assert olga.cancel_session(session_id, "enough").status == "cancelled"
    wait_until(lambda: olga.get(task_id).status == "cancelled", what="its task is cancelled")
    assert ended(olga, session_id).status == "cancelled"
    assert olga.session_step(session_id, "main.after").status in ("skipped", "cancelled")
    with pytest.raises(Conflict):
        olga.resume_session(session_id)


def test_what_failed_is_retried_a_step_is_run_again_with_changed_input_and_what_was_done_is_undone(olga):
    undo = {"agent_class": "Tell", "executor": "celery", "input": {"undone": True}}
    session_id = started(
        olga,
        tasks=[
            step("base", input={"n": 1}, compensation=undo),
            step("after", dependencies=["base"], input={"got": "{base.n}"}),
            step("shaky", input={"fail": {"attempts": 1}}),
        ],
    )
    assert ended(olga, session_id).status == "failed"
    assert olga.retry_session(session_id, "once more").run == 2
    assert ended(olga, session_id).completed
    base = olga.session_step(session_id, "main.base")
    olga.rerun_session(session_id, "main.base", input={"n": 2})
    assert ended(olga, session_id).completed
    results = olga.session_results(session_id)["results"]
    assert (results["base"]["n"], results["after"]["got"]) == (2, 2)
    assert olga.session_step(session_id, "main.base").started > base.finished
    olga.compensate_session(session_id)
    wait_until(lambda: olga.session(session_id).data["compensation"] == "completed", what="it is undone")


# ---- at the prompt ----------------------------------------------------------------------------------------


def test_a_file_is_run_from_the_prompt_and_the_exit_status_says_whether_it_completed(org, tmp_path):
    good = tmp_path / "good.yaml"
    good.write_text(
        "tasks:\n- {key: fan, agent_class: Tell, message_template: 'to {who}', who_all: [Ada, Bo],\n"
        "   expansion_config: {type: array, array_mapping: {who: who_all}}}\n"
        "- {key: say, agent_class: Tell, dependencies: [fan], message_template: 'said {greeting}'}\n"
        "context: {greeting: nothing}\n"
    )
    run = jobctl(org, "sessions", "run", str(good), "--json", "--set", "greeting=hello", "--session-id", f"cli-{next(_ids)}", name="olga")
    assert run.returncode == 0, run.stderr
    said = documents(run)
    assert [said[0]["event"], said[-2]["event"], said[-1]["event"]] == ["session", "end", "results"]
    assert said[-1]["results"]["say"]["message"] == "said hello"
    shown = jobctl(org, "sessions", "show", said[0]["session_id"], name="olga")
    assert "2/2" in shown.stdout and "\x1b" not in shown.stdout
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"tasks": [step("no", input={"fail": {"attempts": 9}})]}))
    failed = jobctl(org, "sessions", "run", str(bad), name="olga")
    assert failed.returncode == 1 and "as it was told" in failed.stdout
    refused = tmp_path / "refused.json"
    refused.write_text(json.dumps({"tasks": [step("a", dependencies=["nobody"])]}))
    assert (jobctl(org, "sessions", "run", str(refused), name="olga")).returncode == 3


def test_a_folder_is_read_file_by_file_by_the_agent_of_the_examples_and_what_it_cannot_read_is_listed(make_org, stack):
    examples = BASE_DIR / "examples"
    reading = make_org(agents={"reader": {}})
    env = {"JOBPLATFORM_NATS_URL": stack.state["urls"]["nats"], "JOBPLATFORM_API_KEY": reading.keys["reader"],
           "PYTHONPATH": str(BASE_DIR / "sdk"), "DOCUMENTS": str(examples / "sample_files")}  # fmt: skip
    agent = Server("reader", [sys.executable, str(examples / "read_documents.py")], ready="agent.started", port=0, env=env)
    reading.processes["reader"] = agent
    stack.agents.append(agent)
    agent.begin()
    agent.wait_ready()
    run = jobctl(reading, "sessions", "run", str(examples / "read_documents.yaml"), "--print", "report")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "8 documents" in run.stdout and "README.md: " in run.stdout
    assert "dot.png: the agent failed: ValueError: dot.png is no text" in run.stdout


async def _whole_way(org: Any, session_id: str) -> tuple[list[str], list[str], dict[str, Any]]:
    async with AsyncClient(org.stack.url, org.keys["olga"]) as client:
        await client.create_session({"session_id": session_id, "tasks": [step("a"), step("b", dependencies=["a"])]})
        kinds = [news.kind async for news in client.follow_session(session_id)]
        assert (await client.wait_session(session_id)).completed
        paths = [one.path async for one in client.session_steps(session_id)]
        return kinds, paths, await client.session_results(session_id)


def test_the_asynchronous_client_goes_the_whole_way_too(org):
    kinds, paths, result = asyncio.run(_whole_way(org, f"spec-{next(_ids)}"))
    assert kinds[0] == "session" and kinds[-1] == "end" and paths == ["main", "main.a", "main.b"]
    assert result["final"] and set(result["results"]) == {"a", "b"}


def test_times_are_those_of_one_clock_and_states_follow_each_other(olga):
    session_id = started(olga, tasks=[step("a"), step("b", dependencies=["a"])])
    assert ended(olga, session_id).completed
    at = [datetime.fromisoformat(event["at"]) for event in olga.session_events(session_id)]
    assert at == sorted(at) or max(abs((one - two).total_seconds()) for one, two in zip(at, sorted(at), strict=True)) < 1
