"""Jobs of views from Python and from jobctl: what is sent, how answers read, what a stream tells to its end."""

from __future__ import annotations

import pytest

from jobplatform_sdk.client_errors import Conflict, NotFound
from tests.unit.sdk_client.cli_kit import EVIL, FINE, NOT_COMPLETED, REFUSED, documents
from tests.unit.sdk_client.wire_server import Reply, Stream, event, problem

JOB = {
    "success": True, "job_id": "job_1", "status": "started", "name": "Reports.write", "queue": "slow", "attempt": 2, "retries": 2,
    "progress": 40.0, "message": "page 2 of 5", "eta_s": 12.0, "created_at": "2026-11-22T10:00:00.000Z", "submitted_by": "key ada",
    "started_at": "2026-11-22T10:00:05.000Z", "ended_at": None, "priority": 0,
}  # fmt: skip
DONE = JOB | {"status": "finished", "progress": 100.0, "result": {"pages": 5}, "ended_at": "2026-11-22T10:00:09.000Z"}
FAILED = JOB | {"success": False, "status": "failed", "error": "No paper.", "error_code": "error", "ended_at": "2026-11-22T10:00:09.000Z"}
BORN = {"id": "", "old": None, "new": "queued", "attempt": 0, "reason": "", "actor": "key ada", "at": "2026-11-22T10:00:00.000Z"}


# ---- both clients -----------------------------------------------------------------------------------------


def test_jobs_come_page_after_page_and_read_as_values(client, server):
    server.will(Reply(200, {"items": [JOB], "next_cursor": "c"}), Reply(200, {"items": [DONE], "next_cursor": None}))
    running, done = client.jobs(status=["started", "finished"], queue="slow", page_size=1)
    assert (running.ended, running.progress, running.eta_s, running.submitter) == (False, 40.0, 12.0, "key ada")
    assert (done.finished, done.result, (done.ended_at - done.started).total_seconds()) == (True, {"pages": 5}, 4.0)
    first, second = server.seen
    wanted = [("status", "started"), ("status", "finished"), ("queue", "slow"), ("limit", "1")]
    assert (first.path, first.query) == ("/api/v1/jobs", wanted) and second.query[-1] == ("cursor", "c")


def test_a_job_is_waited_for_also_when_its_stream_breaks(client, server):
    server.will(
        Stream([event("status", JOB)], breaks=True), Stream([event("status", JOB), b": beat\n\n", event("end", DONE)]), Reply(200, DONE)
    )
    assert client.wait_job("job_1").result == {"pages": 5}
    assert [seen.path for seen in server.seen] == ["/api/v1/jobs/job_1/stream"] * 2 + ["/api/v1/jobs/job_1"]


def test_cancelling_may_be_repeated_and_a_retry_is_sent_once(client, server):
    server.will(Reply(503, {"detail": "Away.", "code": "unavailable"}), Reply(200, JOB))
    assert client.cancel_job("job_1", "no need").status == "started"
    assert [seen.json for seen in server.seen] == [{"reason": "no need"}] * 2
    server.will(Reply(201, JOB | {"job_id": "job_2", "retry_of": "job_1"}), problem(409, "job_not_failed", "Only a failed one."))
    assert client.retry_job("job_1").retry_of == "job_1"
    with pytest.raises(Conflict):
        client.retry_job("job_1")
    server.will(Reply(200, {"items": [BORN]}), Reply(200, {"statuses": {"queued": 1}, "queues": {}}), problem(404, "not_found"))
    assert client.job_events("job_1")[0]["new"] == "queued" and client.job_summary()["statuses"] == {"queued": 1}
    with pytest.raises(NotFound):
        client.job("job_x")
    with pytest.raises(NotFound):
        client.job("..")


# ---- jobctl -----------------------------------------------------------------------------------------------


def test_jobs_in_a_table_and_for_programs(jobctl, server):
    page = {"items": [JOB, FAILED | {"job_id": "job_2", "name": EVIL}], "next_cursor": None}
    server.will(Reply(200, page), Reply(200, page))
    status, out, _ = jobctl("jobs", "list", "--status", "failed", "--queue", "slow", "--error", "error", "--name", "x", "--limit", "1")
    assert status == FINE and "started 40%" in out and "page 2 of 5" in out and "job_2" not in out
    assert server.seen[0].query == [("status", "failed"), ("queue", "slow"), ("name", "x"), ("error_code", "error"), ("limit", "2")]
    status, out, _ = jobctl("jobs", "list", "--json", "--limit", "0")
    assert documents(out) == page["items"] and "\x1b" not in out


def test_one_job_is_shown_with_its_times_its_error_and_what_happened(jobctl, server):
    moves = [BORN, BORN | {"id": "1", "old": "queued", "new": "started", "attempt": 1}, BORN | {"new": "failed", "reason": "No paper."}]
    server.will(Reply(200, FAILED), Reply(200, {"items": moves}))
    status, out, _ = jobctl("jobs", "show", "job_1")
    assert status == FINE
    for said in ("job_1  failed", "Reports.write", "No paper. (error)", "2 of 3", "waited      5.00 s", "ran         4.00 s", "attempt 1"):
        assert said in out, (said, out)
    server.will(Reply(200, {"statuses": {"queued": 3, "failed": 0}, "queues": {"slow": {"queued": 3}}}))
    assert "3 queued" in (out := jobctl("jobs", "summary")[1]) and "slow" in out and "failed" not in out


def test_a_job_is_watched_to_its_end_and_the_status_says_how_it_was(jobctl, server):
    server.will(Stream([event("status", JOB), event("end", DONE)]), Reply(200, DONE))
    status, out, _ = jobctl("jobs", "watch", "job_1")
    assert status == FINE and "started  40%  12.0 s left  page 2 of 5" in out and "job_1  finished" in out and '"pages": 5' in out
    server.will(Stream([event("end", DONE | {"result": "a\nb"})]), Reply(200, DONE | {"result": "a\nb"}))
    assert jobctl("jobs", "watch", "job_1", "--print")[1] == "a\nb\n"
    server.will(Stream([event("status", JOB), event("end", FAILED)]), Reply(200, FAILED))
    status, out, _ = jobctl("jobs", "watch", "job_1", "--json")
    assert status == NOT_COMPLETED and documents(out) == [JOB, FAILED]


def test_several_are_cancelled_or_tried_again_and_a_no_stops_nobody(jobctl, server):
    server.will(problem(409, "job_ended", "The job has already ended."), Reply(200, JOB))
    status, out, err = jobctl("jobs", "cancel", "job_0", "job_1", "--reason", "r")
    assert status == REFUSED and "job_0: The job has already ended." in err and "asked to stop" in out
    server.will(Reply(201, JOB | {"job_id": "job_9"}), Stream([event("end", DONE)]), Reply(200, DONE | {"job_id": "job_9"}))
    status, out, err = jobctl("jobs", "retry", "job_1", "--watch")
    assert status == FINE and "job_9" in err and "job_9  finished" in out
