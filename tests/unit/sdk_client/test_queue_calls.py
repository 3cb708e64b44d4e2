"""The queue in the clients and in jobctl: what is sent, what is shown."""

from __future__ import annotations

import subprocess

import pytest

from jobplatform_sdk.client_errors import Conflict
from tests.unit.sdk_client.cli_kit import FINE, REFUSED, command, documents, environment, task
from tests.unit.sdk_client.wire_server import Reply, problem

BOARD = {
    "paused": {"reason": "the vault moves", "since": "2026-11-22T10:00:00.000Z", "by": "olga"}, "waiting": 7, "delayed": 2, "parked": 3,
    "in_flight": 4, "max_inflight": 9, "oldest_wait_s": 61.5, "per_minute": 12.5,
    "lanes": [{"job_space_id": "", "waiting": 7, "next_task_id": "t\x1b1", "next_wait_s": 61.5, "per_minute": 12.5, "paused": False},
              {"job_space_id": "lab", "waiting": 0, "next_task_id": None, "next_wait_s": None, "per_minute": 0, "paused": True}],
    "keys": [{"key": "customer-7", "parked": 3}], "keys_with_parked": 1,
    "reordering": {"script": "priority/x@2:ab", "running": True, "looked_at": 500, "of_about": 1200, "changed": 3},
}  # fmt: skip


def test_the_queue_is_given_as_it_is_told(client, server):
    server.will(Reply(200, BOARD))
    assert client.queue() == BOARD
    assert (server.seen[0].method, server.seen[0].path) == ("GET", "/api/v1/queue")


def test_pausing_and_resuming_say_what_and_why(client, server):
    server.will(Reply(200, BOARD), Reply(200, BOARD), Reply(200, BOARD))
    client.pause_queue("the vault moves")
    client.pause_queue(job_space="lab")
    client.resume_queue("done", job_space="lab")
    assert [(seen.path, seen.json) for seen in server.seen] == [
        ("/api/v1/queue/pause", {"reason": "the vault moves"}),
        ("/api/v1/queue/pause", {"job_space_id": "lab"}),
        ("/api/v1/queue/resume", {"reason": "done", "job_space_id": "lab"}),
    ]


def test_another_priority_gives_the_task_as_it_is_then(client, server):
    server.will(Reply(200, task() | {"priority": -7}), problem(409, "already_ended", "The task has already ended."))
    assert client.set_priority("t1", -7, "it can wait").priority == -7
    assert (server.seen[0].path, server.seen[0].json) == ("/api/v1/tasks/t1/priority", {"priority": -7, "reason": "it can wait"})
    with pytest.raises(Conflict):
        client.set_priority("t1", 5)


def run(server, *arguments):
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(server), check=False)
    return done.returncode, done.stdout, done.stderr


def test_jobctl_shows_the_queue_to_people(server):
    server.will(Reply(200, BOARD))
    status, out, _ = run(server, "queue")
    assert status == FINE and "\x1b1" not in out
    assert "paused  the vault moves" in out and "7 waiting, 2 delayed, 3 parked, 4 in flight  at most 9" in out
    assert all(told in out for told in ("(none)", "lab", "customer-7", "500 of 1200"))


def test_jobctl_pauses_and_prioritizes_and_says_what_was_refused(server):
    server.will(Reply(200, BOARD), Reply(200, task("t1", priority=500)), problem(409, "already_ended", "The task has already ended."))
    status, out, _ = run(server, "pause", "--space", "lab", "--json")
    assert status == FINE and documents(out) == [BOARD]
    status, out, error = run(server, "priority", "500", "t1", "t2")
    assert status == REFUSED and "t1  queued" in out and "already ended" in error
    assert [seen.json for seen in server.seen] == [{"job_space_id": "lab"}, {"priority": 500}, {"priority": 500}]
