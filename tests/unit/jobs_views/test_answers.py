"""What clients are told, from a job as it stood."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from apps.core.errors import Invalid, Problem, Unavailable
from apps.jobs import answers
from apps.jobs.answers import JobFailed, Preference
from apps.jobs.calls import VIEW_FIELDS, JobView
from apps.jobs.states import JobStatus
from tests.factories import NOON

JOB = JobView(**{**dict.fromkeys(VIEW_FIELDS), "id": "job_1", "status": JobStatus.QUEUED, "created_at": NOON, "queue": "fast", "error_code": "", "error": ""})  # fmt: skip  # noqa: E501


def test_a_running_job_tells_how_far_it_is():
    job = replace(JOB, status=JobStatus.STARTED, started_at=NOON, progress=40.0, message="page 4", rate=2.0, eta_s=30.0)
    body = answers.status_body(job)
    assert (body["success"], body["progress"], body["message"], body["rate"], body["eta_s"]) == (True, 40.0, "page 4", 2.0, 30.0)
    assert not {"result", "error"} & set(body)


@pytest.mark.parametrize(("status", "code"), [("failed", 200), ("cancelled", 200), ("expired", 410)])
def test_an_end_without_a_result_says_why(status, code):
    answer = answers.status(replace(JOB, status=JobStatus(status), ended_at=NOON), now=NOON)
    assert (answer.status, answer.body["success"], answer.body["status"]) == (code, False, status)
    assert answer.body["error"] and "Retry-After" not in answer.headers


def test_a_null_result_is_a_result():
    assert answers.status_body(replace(JOB, status=JobStatus.FINISHED))["result"] is None


def test_the_etag_is_of_what_is_told():
    first, same = (answers.status(JOB, now=NOON + timedelta(seconds=late)) for late in (0, 60))
    assert first.headers["ETag"] == same.headers["ETag"]
    assert (first.headers["Retry-After"], same.headers["Retry-After"]) == ("1", "6")
    assert answers.status(replace(JOB, message="x"), now=NOON, if_none_match=first.headers["ETag"]).status == 200
    for header in (first.headers["ETag"], f"W/{first.headers['ETag']}", "*", f'"a", {first.headers["ETag"]}'):
        assert answers.status(JOB, now=NOON, if_none_match=header).status == 304


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/a/b", "/a/b"), ("//evil.example/x", "/%2Fevil.example/x"), ("/a\r\nSet-Cookie: b", "/a%0D%0ASet-Cookie:%20b"),
        ("/ä?b#c", "/%C3%A4%3Fb%23c"), ("", ""),
    ],
)  # fmt: skip
def test_the_status_url_is_the_same_path_and_nothing_else(path, url):
    assert answers.status_url(path, "job_1") == f"{url}?job_id=job_1"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", (False, None)), ("respond-async", (True, None)), ("Respond-Async, wait=10", (True, 10)), ('wait="5"; foo', (False, 5)),
        ("wait=-1", (False, None)), ("wait=1e9", (False, None)), ("wait=9999999", (False, None)), ("wait=3, wait=9", (False, 3)),
        ("return=minimal;wait=4", (False, None)), ("," * 5000, (False, None)),
    ],
)  # fmt: skip
def test_preferences_are_read_as_rfc_7240_writes_them(header, expected):
    prefer = Preference.read(header)
    assert (prefer.respond_async, prefer.wait_s) == expected


def test_how_long_a_call_waits():
    waits = [Preference.read(header).seconds(inline=inline, default_s=30, most_s=60) for header in ("", "respond-async", "wait=90") for inline in (False, True)]  # fmt: skip  # noqa: E501
    assert waits == [0, 30, 0, 0, 60, 60]


def test_inline_a_failure_is_an_error_with_the_jobs_status():
    with pytest.raises(JobFailed) as failed:
        answers.own_result(replace(JOB, status=JobStatus.FAILED, error="No.", error_code="forbidden"), {})
    answer = answers.refused(failed.value)
    assert (answer.status, answer.body["success"], answer.body["error"], answer.body["job_id"]) == (403, False, "No.", "job_1")


def test_refusals_name_what_is_wrong():
    answer = answers.refused(Invalid([Problem(field="data.a", code="x", message="y")]))
    assert (answer.status, answer.body["errors"]) == (400, [{"field": "data.a", "code": "x", "message": "y"}])
    assert answers.refused(Unavailable()).headers == {"Retry-After": "2"}
