"""What clients of jobs are told, as one small value each; adapters turn it into their framework's response.

The bodies are those of the ecosystem's `as_job`: creation `{"success", "job_id", "status": "enqueued", "message",
"status_url"}`, status `{"success", "job_id", "status", "created_at", "started_at", "ended_at", …}`, errors
`{"success": false, "error", "status_code"}`. What we add has names of its own; nothing is renamed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import orjson

from apps.core import clock
from apps.core.errors import Invalid, PlatformError
from apps.jobs.calls import JobView
from apps.jobs.states import JobStatus, Reason

MAX_RETRY_AFTER = 10
NO_HEADERS: Mapping[str, str] = {}
_WAIT = re.compile(r"[0-9]{1,6}")
_TELLS = {
    JobStatus.QUEUED: "The job waits for a worker.",
    JobStatus.STARTED: "The job is running.",
    JobStatus.RETRYING: "An attempt failed; the job will be tried again.",
}
_ENDS = {
    JobStatus.FAILED: "The job failed.",
    JobStatus.CANCELLED: "The job was cancelled.",
    JobStatus.EXPIRED: "What this job gave is no longer kept.",
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int = 200
    body: Any = None
    """JSON; None: an answer without a body"""
    headers: Mapping[str, str] = field(default_factory=dict)


# ---- what clients prefer (RFC 7240) ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Preference:
    respond_async: bool = False
    wait_s: int | None = None

    @classmethod
    def read(cls, header: str) -> Preference:
        """Of a `Prefer` header; what we do not know, or cannot read, is no preference. The first of each name counts."""
        found: dict[str, str] = {}
        for each in header[:1000].split(","):
            name, _, value = each.partition(";")[0].partition("=")
            found.setdefault(name.strip().lower(), value.strip().strip('"'))
        wait = found.get("wait", "")
        return cls(respond_async="respond-async" in found, wait_s=int(wait) if _WAIT.fullmatch(wait) else None)

    def seconds(self, *, inline: bool, default_s: float, most_s: float) -> float:
        """How long to wait for the result before answering 202. `inline`: the method answers its own result if it can."""
        if self.wait_s is not None:
            return min(self.wait_s, most_s)
        return 0 if self.respond_async or not inline else min(default_s, most_s)

    def applied(self, *, is_async: bool) -> dict[str, str]:
        """Of an answer; `is_async`: it is the 202."""
        names = ["respond-async"] if self.respond_async and is_async else []
        names += [f"wait={self.wait_s}"] if self.wait_s is not None else []
        return {"Preference-Applied": ", ".join(names)} if names else {}


# ---- answers ------------------------------------------------------------------------------------------------


def status_url(path: str, job_id: str) -> str:
    """`path` as it was decoded. Never the address of another host, and no header of its own."""
    quoted = quote(path, safe="/:@!$&'()*+,;=~")
    if quoted.startswith("//"):
        quoted = f"/%2F{quoted[2:]}"
    return f"{quoted}?job_id={job_id}"


def created(job: JobView, *, path: str, repeated: bool, now: datetime) -> Answer:
    url = status_url(path, job.id)
    message = "This was asked before; here is its job." if repeated else f'The job waits in the queue "{job.queue}".'
    body = {
        "success": True,
        "job_id": job.id,
        "status": "enqueued" if job.status is JobStatus.QUEUED else job.status.value,
        "message": message,
        "status_url": url,
    }
    return Answer(status=202, body=body, headers={"Location": url, "Retry-After": str(_retry_after(job, now))})


def status(job: JobView, *, now: datetime, if_none_match: str = "") -> Answer:
    """410 when what it gave has expired, 304 when the client has this very body."""
    more = {} if job.has_ended else {"Retry-After": str(_retry_after(job, now))}
    return conditional(status_body(job), if_none_match, status=410 if job.status is JobStatus.EXPIRED else 200, headers=more)


def conditional(body: dict[str, Any], if_none_match: str, *, status: int = 200, headers: Mapping[str, str] = NO_HEADERS) -> Answer:
    """With an ETag; 304 for whoever has this very body."""
    tag = f'"{hashlib.blake2b(orjson.dumps(body), digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization, Cookie", **headers}
    if _matches(if_none_match, tag):
        return Answer(status=304, headers=headers)
    return Answer(status=status, body=body, headers=headers)


def status_body(job: JobView) -> dict[str, Any]:
    body: dict[str, Any] = {
        "success": job.status not in _ENDS,
        "job_id": job.id,
        "status": job.status.value,
        "created_at": clock.iso(job.created_at),
        "started_at": clock.iso(job.started_at),
        "ended_at": clock.iso(job.ended_at),
    }
    if job.status is JobStatus.FINISHED:
        body["result"] = job.result
    elif job.has_ended:
        body["error"] = job.error or _ENDS[job.status]
        if job.error_code:
            body["error_code"] = job.error_code
        if job.errors:
            body["errors"] = job.errors
        if job.status is JobStatus.EXPIRED:
            body["status_code"] = 410
    else:
        cancelled = job.cancel_requested_at is not None
        body["message"] = job.message or ("The job is asked to stop." if cancelled else _TELLS[job.status])
        body["progress"] = job.progress
        if job.rate is not None:
            body |= {"rate": job.rate, "eta_s": job.eta_s}
    if job.result_status is not None and job.status in (JobStatus.FINISHED, JobStatus.FAILED):
        body["result_status"] = job.result_status
    return body


class JobFailed(PlatformError):
    """Inline: the job ended without a result. Fact `answer`: what to say."""

    sentence = "The job failed."


def own_result(job: JobView, headers: Mapping[str, str]) -> Answer:
    """Inline: what the method answered, as if it had been called. Raises JobFailed when it did not, with the status of the exception
    that it raised where that has one (a `ValidationError`, DRF's `NotFound`)."""
    if job.status is JobStatus.FINISHED:
        return Answer(status=job.result_status or 200, body=job.result, headers=headers)
    code = 410 if job.status is JobStatus.EXPIRED else 403 if job.error_code == Reason.FORBIDDEN else 500
    if job.status is JobStatus.FAILED:
        code = job.result_status or code
    body = {**status_body(job), "status_code": code}
    raise JobFailed(body["error"], job_id=job.id, answer=Answer(status=code, body=body, headers=headers))


def refused(error: PlatformError) -> Answer:
    """What is wrong with the request is 400 here, and named."""
    if isinstance(error, JobFailed):
        return error.answer
    status = 400 if isinstance(error, Invalid) else error.status
    body: dict[str, Any] = {"success": False, "error": error.sentence, "status_code": status}
    if isinstance(error, Invalid):
        body["errors"] = [problem.json() for problem in error.problems]
    body |= {name: error.facts[name] for name in error.shown if name in error.facts}
    wait = error.facts.get("retry_after_seconds") or getattr(type(error), "retry_after_seconds", None)
    return Answer(status=status, body=body, headers={"Retry-After": str(wait)} if wait else {})


UNKNOWN = Answer(status=404, body={"success": False, "error": "No such job.", "status_code": 404})
"""Of an id that never was, of one that is gone, and of other people's jobs: one and the same."""


def _retry_after(job: JobView, now: datetime) -> int:
    """Seconds: soon for a young job, later for one that takes its time."""
    age = (now - job.created_at).total_seconds()
    return max(1, min(MAX_RETRY_AFTER, int(age / 10)))


def _matches(if_none_match: str, tag: str) -> bool:
    known = {text.strip().removeprefix("W/") for text in if_none_match[:4096].split(",")}
    return tag in known or known == {"*"}
