"""The story of a task, told on a whole platform: real servers, real workers, real agent processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.processes import wait_until

pytestmark = pytest.mark.acceptance


def test_a_submitted_task_is_assigned_and_done_by_a_real_agent(org):
    entry = org.entry(task_goal="count these four words")
    answer = org.api.submit(entry)
    assert answer.status == 200, answer.body
    assert answer.json["status"] == "assigned"
    assert answer.json["task_id"] == entry["task_id"]
    assert answer.json["subject_id"] in {"ada", "bo"}
    task = org.api.ended(entry["task_id"])
    assert task["status"] == "completed"
    assert task["result"]["words"] == 4
    assert task["result"]["by"] == answer.json["subject_id"] == task["agent"]
    path = org.path(entry["task_id"])
    assert path[:3] == ["queued", "assigned", "dispatched"]
    assert path[-1] == "completed"
    assert org.violations([entry["task_id"]]) == []


def test_without_waiting_the_answer_is_queued_and_the_task_goes_on(org):
    entry = org.entry()
    answer = org.api.submit(entry, wait=0)
    assert answer.status == 202
    assert {"status": "queued", "task_id": entry["task_id"]}.items() <= answer.json.items()
    assert org.api.ended(entry["task_id"])["status"] == "completed"


def test_a_task_and_its_sub_task_are_entries_of_the_store_and_the_parent_shows_how_far_its_part_is(org):
    parent = org.entry(task_execution_mode="manual")
    org.api.submit(parent, wait=0)
    part = {
        "sub_task_id": f"{parent['task_id']}-part", "task_id": parent["task_id"], "sub_task_goal": "one two", "sub_task_intent": "of it",
        "sub_task_priority_value": 1, "parent_subject_ids": ["ada"], "assigned_subject_ids": ["bo"],
    }  # fmt: skip
    answer = org.api.post("/internal/process-task", {"type": "sub_task", "data": part})
    assert (answer.status, answer.json["subject_id"]) == (200, "bo")
    assert org.api.ended(part["sub_task_id"])["result"]["words"] == 2
    rows = org.tasks()
    lies = rows[part["sub_task_id"]]
    assert (lies["kind"], lies["parent_key"], lies["status"]) == ("sub_task", f"{org.org_id}/{parent['task_id']}", "completed")
    assert lies["entry"]["sub_task_goal"] == "one two" and rows[parent["task_id"]]["entry"]["task_goal"] == parent["task_goal"]
    shown = org.api.task(parent["task_id"])
    assert shown["sub_tasks"] == {"total": 1, "by_status": {"completed": 1}, "progress": 100.0}
    assert (shown["status"], shown["progress"]) == ("awaiting_approval", 100.0)


def test_bulk_lines_get_a_verdict_each_and_all_are_done(make_org, stack):
    org = make_org(agents={"ada": {}, "bo": {}})
    org.start("ada", "bo")
    count = 200 if stack.tasks_url else 1000  # secantusdb, in Python, takes 25 ms for the dozen writes of a task
    entries = [org.entry() for _ in range(count)]
    *verdicts, last = org.api.submit_bulk(entries)
    assert [verdict["task_id"] for verdict in verdicts] == [entry["task_id"] for entry in entries]
    assert {verdict["status"] for verdict in verdicts} == {"queued"}
    assert last["summary"]["accepted"] == count
    assert org.all_ended(count) == {"completed": count}
    assert org.violations([entry["task_id"] for entry in entries]) == []
    shares = [sum(task["head_agent_subject_id"] == name for task in org.tasks().values()) for name in ("ada", "bo")]
    assert min(shares) > count / 10


def test_an_agent_that_declines_leaves_the_task_to_another(org):
    entry = org.entry(do={"decline": ["ada"]})
    org.api.submit(entry)
    task = org.api.ended(entry["task_id"])
    assert (task["status"], task["result"]["by"]) == ("completed", "bo")
    assert [agent for agent, _ in org.starts(entry["task_id"])] == ["bo"]


def test_when_everybody_declines_the_task_fails_and_says_so(org):
    entry = org.entry(do={"decline": ["ada", "bo"]})
    org.api.submit(entry)
    task = org.api.ended(entry["task_id"])
    assert task["status"] == "failed"
    assert "declined" in task["reason"]
    assert org.starts(entry["task_id"]) == []


def test_a_failure_worth_a_retry_is_tried_again_and_another_is_not(org):
    again, never = org.entry(do={"fail": {"attempts": 1}}), org.entry(do={"fail": {"attempts": 1, "retryable": False}})
    org.api.submit(again, wait=0)
    org.api.submit(never, wait=0)
    done, failed = org.api.ended(again["task_id"]), org.api.ended(never["task_id"])
    assert (done["status"], done["attempt"], done["result"]["attempt"]) == ("completed", 2, 2)
    assert (failed["status"], failed["attempt"]) == ("failed", 1)
    assert "as it was told" in failed["reason"]
    assert len(org.starts(again["task_id"])) == 2
    assert org.violations([again["task_id"], never["task_id"]]) == []


def test_attempts_have_an_end(make_org):
    org = make_org(agents={"ada": {}}, max_attempts=2, retry_backoff_s=0.1)
    org.start("ada")
    entry = org.entry(do={"fail": {"attempts": 99}})
    org.api.submit(entry, wait=0)
    task = org.api.ended(entry["task_id"])
    assert (task["status"], task["attempt"]) == ("failed", 2)
    assert org.starts(entry["task_id"]) == [("ada", 1), ("ada", 2)]


def test_a_queued_task_is_cancelled_and_never_starts(make_org):
    org = make_org(agents={"ada": {}}, agent_prefetch=0, default_agent_slots=1)
    org.start("ada", slots=1)
    gate = org.gate()
    busy, waiting = org.entry(do=gate.do()), org.entry()
    org.api.submit(busy)
    org.api.submit(waiting, wait=0)
    assert org.api.task(waiting["task_id"])["status"] == "queued"
    answer = org.api.post(f"/api/v1/tasks/{waiting['task_id']}/cancel", {"reason": "not needed any more"})
    assert answer.status == 200, answer.body
    gate.open()
    assert org.api.ended(busy["task_id"])["status"] == "completed"
    task = org.api.task(waiting["task_id"])
    assert (task["status"], task["reason"]) == ("cancelled", "not needed any more")
    assert org.path(waiting["task_id"]) == ["queued", "cancelled"]
    assert org.starts(waiting["task_id"]) == []
    assert org.api.post(f"/api/v1/tasks/{waiting['task_id']}/cancel").status == 200
    assert org.api.post(f"/api/v1/tasks/{busy['task_id']}/cancel").status == 409


def test_a_running_task_is_cancelled_and_its_agent_is_told_to_stop(org):
    entry = org.entry(do={"seconds": 60})
    org.api.submit(entry)
    wait_until(lambda: org.api.task(entry["task_id"])["status"] == "running", what="running")
    assert org.api.post(f"/api/v1/tasks/{entry['task_id']}/cancel").status == 200
    assert org.api.task(entry["task_id"])["status"] == "cancelled"

    def stopped() -> bool:
        from tests.checker import read_histories

        return any(line["event"] == "end" and line["outcome"] == "cancelled" for line in read_histories(org.history))

    wait_until(stopped, what="the agent stopped")
    assert org.violations([entry["task_id"]]) == []


def test_progress_and_news_reach_who_watches_the_stream(org):
    entry = org.entry(do={"progress": [25, 50, 75], "seconds": 0.5})
    org.api.submit(entry, wait=0)
    seen = list(org.api.stream(f"/api/v1/tasks/{entry['task_id']}/stream"))
    statuses = [data["status"] for _, data in seen if "status" in data]
    assert statuses[-1] == "completed"
    percents = [data["percent"] for _, data in seen if "percent" in data]
    assert percents == sorted(percents)
    assert org.api.task(entry["task_id"])["progress"] == 100


def test_the_same_body_again_is_the_same_task_and_another_body_is_a_conflict(org):
    entry = org.entry()
    first = org.api.submit(entry)
    org.api.ended(entry["task_id"])
    again = org.api.submit(entry)
    assert (first.status, again.status) == (200, 200)
    for name in ("status", "subject_id", "task_id"):
        assert again.json[name] == first.json[name]
    other = org.api.submit({**entry, "task_goal": "something else"})
    assert other.status == 409
    assert "error" in other.json
    assert org.path(entry["task_id"]).count("queued") == 1


def test_fifty_posts_of_one_task_at_once_make_one_task(org):
    entry = org.entry()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: org.api.submit(entry), range(50)))
    assert {answer.status for answer in answers} <= {200, 202}
    org.api.ended(entry["task_id"])
    assert org.path(entry["task_id"]).count("queued") == 1
    assert len(org.starts(entry["task_id"])) == 1


def test_another_org_sees_nothing(org, make_org):
    entry = org.entry()
    org.api.submit(entry)
    stranger = make_org()
    mine = f"/api/v1/tasks/{entry['task_id']}"
    for name in ("sam", "olga", "ann"):
        other = stranger.as_(name)
        for path in (mine, f"{mine}/events", f"{mine}/stream"):
            foreign, ghost = other.get(path), other.get(path.replace(entry["task_id"], "no-such-task"))
            assert foreign.status == ghost.status == 404
            assert _without_request_id(foreign) == _without_request_id(ghost)
        assert other.post(f"{mine}/cancel").status == 404
        assert other.get(f"/org-config/{org.org_id}/max_attempts").status in {403, 404}
        assert entry["task_id"] not in other.get("/api/v1/tasks").body.decode()
    assert stranger.api.submit(entry).status in {403, 404, 422}
    assert org.api.get(mine).status == 200


def _without_request_id(answer) -> dict:
    return {name: value for name, value in answer.json.items() if name not in {"request_id", "instance"}}


def test_equal_task_ids_in_two_orgs_are_two_tasks(org, make_org):
    other = make_org(agents={"cy": {}})
    other.start("cy")
    org.api.submit(org.entry(task_id="same"))
    other.api.submit(other.entry(task_id="same"))
    assert org.api.ended("same")["result"]["by"] in {"ada", "bo"}
    assert other.api.ended("same")["result"]["by"] == "cy"


def test_without_agents_the_answer_is_that_nobody_could_be_assigned(make_org):
    org = make_org()
    entry = org.entry()
    answer = org.api.submit(entry)
    assert answer.status == 409
    assert answer.json["error"] == "No agent could be assigned"
    assert org.api.task(entry["task_id"])["status"] == "failed"


def test_a_static_head_agent_gets_everything(make_org):
    org = make_org(agents={"ada": {}, "bo": {}}, agent_resolution_strategy="static", static_head_agent_subject_id="bo")
    org.start("ada", "bo")
    entries = [org.entry() for _ in range(6)]
    org.api.submit_bulk(entries)
    org.all_ended(6)
    assert {task["result"]["by"] for task in (org.api.task(entry["task_id"]) for entry in entries)} == {"bo"}


def test_higher_priorities_are_done_first(make_org):
    org = make_org(agents={"ada": {}}, agent_prefetch=0)
    entries = [org.entry(task_priority_value=priority) for priority in (0, 5, -5, 9, 5)]
    gate = org.gate()
    first = org.entry(do=gate.do())
    org.start("ada", slots=1)
    org.api.submit(first)
    org.api.submit_bulk(entries)
    gate.open()
    org.all_ended(6)
    from tests.checker import read_histories

    order = [line["task_id"] for line in sorted(read_histories(org.history), key=lambda line: line["at"]) if line["event"] == "start"]
    assert order == [entry["task_id"] for entry in (first, entries[3], entries[1], entries[4], entries[0], entries[2])]
