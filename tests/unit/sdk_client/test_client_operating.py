"""Operators' calls on both clients, and their verbs of jobctl: what is sent, how answers read, what is asked before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jobplatform_sdk.client_errors import BadAnswer, Conflict
from tests.unit.sdk_client.cli_kit import FINE, NOT_COMPLETED, REFUSED, USAGE, documents, task
from tests.unit.sdk_client.wire_server import Reply, problem

LETTER = {
    "task_id": "t1", "kind": "poison", "meaning": "…", "at": "2026-11-22T10:00:00Z", "agent": "ada", "reason": "boom", "state": "waiting",
}  # fmt: skip
ACTION = {"id": "a1", "action": "cancel", "status": "running", "total": 3, "done": 1, "changed": 1, "skipped": 0, "failed": 0}
DONE = ACTION | {"status": "done", "done": 3, "changed": 3}
PREVIEW = {"count": 3, "sample": [{"task_id": "t1", "status": "queued", "goal": "count"}], "token": "T"}
TIMES = [{"planned": "2026-11-23T01:30:00Z", "local": "2026-11-23T02:30:00+01:00", "fires": "2026-11-23T01:30:00Z"}]
SCHEDULE = {
    "name": "nightly", "enabled": True, "cron": "30 2 * * *", "timezone": "Europe/Berlin", "every_seconds": None, "at": None, "fired": 2,
    "next": "2026-11-23T01:30:00Z", "entry": {"task_goal": "tidy"}, "upcoming": TIMES,
}  # fmt: skip
FIRED = {"planned": "2026-11-22T01:30:00Z", "outcome": "fired", "task_id": "nightly@2026-11-22T01:30:00Z"}


# ---- both clients -----------------------------------------------------------------------------------------


def test_dead_letters_come_page_after_page(client, server):
    second = {"items": [LETTER | {"task_id": "t2"}], "next_cursor": None}
    server.will(Reply(200, {"items": [LETTER], "next_cursor": "c"}), Reply(200, second))
    since = datetime(2026, 11, 1, tzinfo=UTC)
    found = list(client.dead_letters(kind=["poison", "expired"], from_=since, page_size=1))
    assert [(one.task_id, one.kind, one.agent) for one in found] == [("t1", "poison", "ada"), ("t2", "poison", "ada")]
    first, second = server.seen
    wanted = [("kind", "poison"), ("kind", "expired"), ("from", "2026-11-01T00:00:00+00:00"), ("limit", "1")]
    assert (first.path, first.query) == ("/api/v1/dead-letters", wanted) and second.query[-1] == ("cursor", "c")


def test_a_retry_is_the_new_task_and_is_not_sent_twice(client, server):
    server.will(Reply(201, task("t1~2")))
    assert client.retry("t1", patch={"goal": "g"}, exclude=["ada"], reason="why").task_id == "t1~2"
    [seen] = server.seen
    assert seen.path == "/api/v1/dead-letters/t1/requeue"
    assert seen.json == {"patch": {"goal": "g"}, "exclude": ["ada"], "keep_excluded": False, "reason": "why"}
    server.will(problem(409, "already_settled", "Settled.", retried_as="t1~2"))
    with pytest.raises(Conflict) as caught:
        client.retry("t1")
    assert caught.value.facts["retried_as"] == "t1~2"


def test_a_preview_then_exactly_that(client, server):
    server.will(Reply(200, PREVIEW), Reply(202, ACTION), Reply(200, DONE))
    preview = client.preview_action("cancel", {"status": ["queued"], "created_from": datetime(2026, 11, 1, tzinfo=UTC)}, reason="r")
    action = client.start_action("cancel", preview.token)
    assert (preview.count, action.over, client.bulk_action(action.id).over) == (3, False, True)
    asked, started, looked = server.seen
    assert asked.json == {
        "action": "cancel", "filter": {"status": ["queued"], "created_from": "2026-11-01T00:00:00+00:00"}, "dry_run": True, "reason": "r",
    }  # fmt: skip
    assert (asked.path, started.path, started.json) == ("/api/v1/tasks/actions", "/api/v1/tasks/actions", {"token": "T"})
    assert looked.path == "/api/v1/bulk-actions/a1"


def test_retry_and_discard_of_many_are_the_dead_letters(client, server):
    server.will(Reply(200, PREVIEW))
    client.preview_action("retry", {"kind": ["poison"]}, exclude=["ada"])
    assert (server.seen[0].path, server.seen[0].json["action"]) == ("/api/v1/dead-letters/actions", "requeue")


def test_schedules_are_made_changed_and_ended(client, server):
    server.will(
        Reply(201, SCHEDULE), Reply(200, SCHEDULE | {"enabled": False}), Reply(201, FIRED), Reply(200, {"items": TIMES}),
        Reply(200, {"items": [FIRED]}), Reply(204, b""),
    )  # fmt: skip
    made = client.create_schedule("nightly", {"goal": "tidy"}, cron="30 2 * * *", starts_at=datetime(2026, 12, 1, tzinfo=UTC))
    assert (made.when, made.fired, made.upcoming[0]["planned"]) == ("30 2 * * * Europe/Berlin", 2, "2026-11-23T01:30:00Z")
    assert not client.change_schedule("nightly", cron=None, every_seconds=60).enabled
    assert client.run_schedule("nightly").outcome == "fired"
    assert client.next_times("nightly", 3) == TIMES and client.firings("nightly")[0].task_id.startswith("nightly@")
    assert client.delete_schedule("nightly") is None
    made, changed, ran, asked, told, ended = server.seen
    assert made.json == {"name": "nightly", "entry": {"goal": "tidy"}, "cron": "30 2 * * *", "starts_at": "2026-12-01T00:00:00+00:00"}
    assert (changed.method, changed.path, changed.json) == ("PATCH", "/api/v1/schedules/nightly", {"cron": None, "every_seconds": 60})
    assert (ran.path, asked.query, told.path) == ("/api/v1/schedules/nightly/run", [("count", "3")], "/api/v1/schedules/nightly/firings")
    assert ended.method == "DELETE"


def test_all_schedules_are_given_however_many_pages_they_take(client, server):
    server.will(Reply(200, {"items": [SCHEDULE], "next_cursor": "c"}), Reply(200, {"items": [SCHEDULE], "next_cursor": None}))
    assert len(client.schedules()) == 2
    assert [dict(seen.query).get("cursor") for seen in server.seen] == [None, "c"]


def test_nonsense_is_a_bad_answer(client, server):
    server.will(Reply(200, {"id": "a1"}), Reply(200, {"count": 3}))
    for ask in (lambda: client.bulk_action("a1"), lambda: client.preview_action("cancel")):
        with pytest.raises(BadAnswer):
            ask()


# ---- jobctl -----------------------------------------------------------------------------------------------


def test_dead_lists_and_says_that_there_are_more(jobctl, server):
    server.will(Reply(200, {"items": [LETTER, LETTER | {"task_id": "t2"}], "next_cursor": None}))
    status, out, err = jobctl("dead", "--limit", "1", "--kind", "poison")
    assert status == FINE and "t1" in out and "boom" in out and "t2" not in out and "there are more" in err


def test_retry_tells_the_new_id_and_goes_on_after_a_no(jobctl, server):
    server.will(problem(409, "already_settled", "Settled."), Reply(201, task("t2~2")))
    status, out, err = jobctl("retry", "t1", "t2", "--patch", '{"priority": 5}')
    assert status == REFUSED and "t1: Settled." in err and "t2~2" in out and server.seen[1].json["patch"] == {"priority": 5}


def test_act_counts_and_asks_first(jobctl, server, monkeypatch):
    server.will(Reply(200, PREVIEW))
    status, out, err = jobctl("act", "cancel", "--prefix", "t")
    assert status == USAGE and "3 to cancel" in out and "t1" in out and "--yes" in err and len(server.seen) == 1


def test_act_with_yes_is_carried_out_and_watched_to_its_end(jobctl, server):
    server.will(Reply(200, PREVIEW), Reply(202, ACTION), Reply(200, DONE))
    status, out, _ = jobctl("act", "reprioritize", "--prefix", "t", "--priority", "5", "--yes", "--json")
    assert status == FINE and documents(out) == [DONE]
    assert server.seen[0].json == {"action": "reprioritize", "filter": {"q": "t"}, "dry_run": True, "reason": "", "priority": 5}


def test_act_on_nothing_is_fine_and_a_failure_is_not(jobctl, server):
    server.will(Reply(200, PREVIEW | {"count": 0, "sample": []}))
    assert jobctl("act", "cancel")[0] == FINE
    failed = DONE | {"failed": 1, "problems": [{"task_id": "t1", "message": "no"}]}
    server.will(Reply(200, PREVIEW), Reply(202, failed))
    status, out, _ = jobctl("act", "retry", "--kind", "no_agent", "--yes")
    assert status == NOT_COMPLETED and "1 failed" in out


def test_an_action_is_called_by_the_verb_that_was_asked_for(jobctl, server):
    on_letters = DONE | {"action": "requeue", "source": "dead_letters"}
    server.will(Reply(200, PREVIEW), Reply(202, on_letters))
    assert "retry: done" in jobctl("act", "retry", "--yes")[1]
    server.will(Reply(200, {"items": [on_letters, DONE | {"id": "a2", "action": "requeue", "source": "tasks"}]}))
    listed = {line.split()[0]: line.split()[1] for line in jobctl("actions")[1].splitlines() if line.startswith("a")}
    assert listed == {"a1": "retry", "a2": "requeue"}


@pytest.mark.parametrize("words", [("reprioritize",), ("cancel", "--kind", "poison"), ("discard", "--status", "queued")])
def test_act_with_words_that_do_not_go_together_is_wrong_usage(jobctl, server, words):
    assert jobctl("act", *words)[0] == USAGE and server.seen == []


def test_a_schedule_from_flags(jobctl, server):
    server.will(Reply(201, SCHEDULE))
    status, out, _ = jobctl("schedule", "create", "nightly", "--goal", "tidy", "--intent", "i", "--cron", "30 2 * * *", "--overlap", "skip")
    assert status == FINE and "2026-11-23T02:30:00+01:00" in out
    assert server.seen[0].json == {
        "name": "nightly", "entry": {"task_priority_value": 0, "task_goal": "tidy", "task_intent": "i"}, "cron": "30 2 * * *",
        "overlap": "skip",
    }  # fmt: skip


def test_schedules_in_a_table_and_for_programs(jobctl, server):
    server.will(Reply(200, {"items": [SCHEDULE]}), Reply(200, {"items": [SCHEDULE]}))
    assert "30 2 * * * Europe/Berlin" in jobctl("schedule", "list")[1]
    assert documents(jobctl("schedule", "list", "--json")[1]) == [SCHEDULE]


def test_a_schedule_is_tried_before_it_is_made(jobctl, server):
    server.will(Reply(200, {"upcoming": [TIMES[0] | {"fires": "2026-11-23T01:30:07Z"}]}), Reply(200, {"upcoming": []}))
    wanted = ("schedule", "create", "often", "--goal", "tidy", "--intent", "i", "--every", "90m", "--jitter", "30", "--dry-run")
    status, out, _ = jobctl(*wanted)
    assert status == FINE and out == "2026-11-23T02:30:00+01:00 (2026-11-23T01:30:00Z, fires 2026-11-23T01:30:07Z)\n"
    (asked,) = server.seen
    entry = {"task_priority_value": 0, "task_goal": "tidy", "task_intent": "i"}
    assert asked.path == "/api/v1/schedules/preview"
    assert asked.json == {"name": "often", "entry": entry, "every_seconds": 5400, "jitter_seconds": 30}
    assert "fires no more" in jobctl(*wanted)[2]


def test_what_a_schedule_has_can_be_taken_away(jobctl, server):
    server.will(Reply(200, SCHEDULE))
    status, _, _ = jobctl("schedule", "change", "nightly", "--starts", "none", "--ends", "none", "--due-after", "none", "--every", "600")
    assert status == FINE
    assert server.seen[0].json == {"starts_at": None, "ends_at": None, "due_after_seconds": None, "every_seconds": 600}


@pytest.mark.parametrize("wrong", ["soon", "1y", "-5", "1.5h", ""])
def test_a_span_that_is_none_is_wrong_usage(jobctl, server, wrong):
    status, _, said = jobctl("schedule", "change", "nightly", f"--every={wrong}")
    assert (status, server.seen) == (USAGE, []) and "--every" in said


def agent(state: str) -> dict[str, Any]:
    return {"subject_id": "ada", "state": state, "breaker": {}, "reputation": {}, "barred": state}


@pytest.mark.parametrize(("states", "status"), [(("draining", "draining", "drained"), 0), (("drained",), 0), (("draining", "active"), 1)])
def test_a_drain_can_be_waited_for(jobctl, server, monkeypatch, states, status):
    monkeypatch.setattr("jobplatform_sdk.cli.agents.POLL_SECONDS", 0)
    server.will(*(Reply(200, agent(state)) for state in states))
    ended, out, _ = jobctl("agents", "drain", "ada", "--wait")
    assert ended == status and states[-1] in out
    assert [(seen.method, seen.path) for seen in server.seen] == [
        ("POST", "/api/v1/agents/ada/drain"), *[("GET", "/api/v1/agents/ada")] * (len(states) - 1)
    ]  # fmt: skip


def test_only_a_drain_can_be_waited_for(jobctl, server):
    assert jobctl("agents", "pause", "ada", "--wait")[0] == USAGE and not server.seen


def test_submit_later(jobctl, server):
    server.will(Reply(201, task()), Reply(201, task()))
    assert jobctl("submit", "--goal", "g", "--intent", "i", "--at", "2027-01-01T10:00:00+01:00")[0] == FINE
    assert server.seen[0].json["task_completion_timeline"] == {"not_before": "2027-01-01T09:00:00+00:00"}
    jobctl("submit", "--goal", "g", "--intent", "i", "--in", "2h")
    start = datetime.fromisoformat(server.seen[1].json["task_completion_timeline"]["not_before"])
    assert 7000 < (start - datetime.now(UTC)).total_seconds() < 7300


def test_a_delayed_task_says_for_how_long(jobctl, server):
    late = task() | {"times": {"created": "2026-11-22T10:00:00Z", "not_before": "2199-01-01T00:00:00Z"}}
    server.will(Reply(200, {"items": [late], "next_cursor": None}))
    assert "queued in " in jobctl("tasks")[1]
