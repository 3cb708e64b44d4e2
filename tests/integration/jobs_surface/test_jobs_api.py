"""Jobs over HTTP: everybody sees his own, operators the org's, nobody another org's; looking, following, steering."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest
from django.db.models import Count

from apps.jobs import answers
from apps.jobs.calls import JobView, Owner
from apps.jobs.models import Job, JobEvent
from apps.jobs.states import JobStatus
from tests.factories import NOON, bearer, make_key
from tests.integration.bad_input.corpus import BAD_IDS
from tests.integration.jobs_surface.kit import move, submit

pytestmark = pytest.mark.django_db(transaction=True)
JOBS = "/api/v1/jobs"
STARTED, FINISHED, FAILED, RETRYING, CANCELLED, EXPIRED = (JobStatus(name) for name in (
    "started", "finished", "failed", "retrying", "cancelled", "expired",
))  # fmt: skip


class Person:
    """One key, what it submits and what it is answered."""

    def __init__(self, client, role: str = "submitter", org: str = "acme") -> None:
        self.client, key = client, make_key(org, role, subject_id="bo" if role == "agent" else "")
        self.headers = bearer(key)
        self.owner = Owner(key=f"key:{key.split('_')[1]}", org_id=org, actor=f"{role} of {org}")

    def submit(self, **options) -> Job:
        return submit(self.owner, **options)

    def get(self, path: str = "", status: int = 200):
        answer = self.client.get(f"{JOBS}{path}", headers=self.headers)
        assert answer.status_code == status, answer.content
        return answer.json()

    def ids(self, query: str = "") -> list[str]:
        return [item["job_id"] for item in self.get(f"?{query}")["items"]]

    def post(self, path: str, body=None, status: int = 200):
        answer = self.client.post(f"{JOBS}{path}", body or {}, "application/json", headers=self.headers)
        assert answer.status_code == status, answer.content
        return answer.json()


@pytest.fixture
def ada(client) -> Person:
    return Person(client)


@pytest.fixture
def boss(client) -> Person:
    return Person(client, "operator")


def test_each_sees_the_jobs_of_his_key_an_operator_those_of_the_org_and_nobody_anothers(client, ada, boss):
    eve, bo = Person(client, "org_admin", "other"), Person(client, "agent")
    mine, theirs, agents = ada.submit(), eve.submit(), bo.submit()
    nobodys = submit(Owner(), name="of no org")
    assert (ada.ids(), bo.ids(), eve.ids(), boss.ids()) == ([mine.id], [agents.id], [theirs.id], [agents.id, mine.id])
    assert boss.get("/summary")["statuses"]["queued"] == 2 and ada.get("/summary")["queues"] == {"default": {"queued": 1}}
    missing = {"detail": "Job not found.", "code": "not_found", "status": 404}
    for path in ("", "/events", "/stream"):
        for person, others in ((ada, (theirs, agents, nobodys)), (boss, (theirs, nobodys)), (eve, (mine, agents))):
            for other in others:
                assert missing.items() <= person.get(f"/{other.id}{path}", status=404).items()
        assert missing.items() <= ada.get(f"/job_{'0' * 32}{path}", status=404).items()
    for verb in ("cancel", "retry"):
        for other in (theirs, agents, nobodys):
            assert missing.items() <= ada.post(f"/{other.id}/{verb}", status=404).items()
    assert set(Job.objects.values_list("status", flat=True)) == {"queued"} and Job.objects.count() == 4


def test_a_job_is_shown_in_the_words_of_its_status_url_and_operators_see_what_is_behind_it(ada, boss):
    job = ada.submit(retries=2, name="Reports.write", queue="slow", timeout=60)
    other = ada.submit(depends_on=[job.id])
    move(job, STARTED, progress=25.0, message="page 1 of 4", rate=0.5, eta_s=150.0)
    shown = ada.get(f"/{job.id}")
    assert answers.status_body(JobView.of(job)).items() <= shown.items()
    facts = {"queue": "slow", "retries": 2, "timeout_s": 60, "submitter": ada.owner.key, "attempt": 1, "depends_on": []}
    assert facts.items() <= shown.items()
    assert "traceback" not in shown and "target" not in shown
    move(job, FAILED, error="No paper.", error_code="error", traceback="Traceback…", reason="No paper.")
    shown = boss.get(f"/{job.id}")
    assert answers.status_body(JobView.of(job)).items() <= shown.items() and shown["success"] is False
    assert (shown["error"], shown["error_code"], shown["traceback"], shown["target"]) == ("No paper.", "error", "Traceback…", job.target)
    assert ada.get(f"/{other.id}")["depends_on"] == [job.id]
    done = move(ada.submit(), STARTED, FINISHED, result={"pages": 4}, result_status=201)
    assert answers.status_body(JobView.of(done)).items() <= ada.get(f"/{done.id}").items()
    assert ada.get(f"/{done.id}")["result"] == {"pages": 4}
    gone = move(done, EXPIRED, result=None)
    shown = ada.get(f"/{gone.id}")
    assert (shown["status"], shown["success"], "result" in shown, "status_code" in shown) == ("expired", False, False, False)


def test_the_list_is_filtered_and_goes_on_where_a_page_ends(ada, boss):
    jobs = [
        ada.submit(now=NOON + timedelta(minutes=number), name=f"Job.n{number}", queue="fast" if number % 2 else "slow")
        for number in range(6)
    ]
    newest = [job.id for job in reversed(jobs)]
    move(jobs[0], STARTED, FAILED, error_code="timeout", now=NOON + timedelta(hours=1))
    move(jobs[1], STARTED, FINISHED, result={"big": "x" * 5000}, now=NOON + timedelta(hours=1))
    found, cursor = [], ""
    while cursor is not None:
        page = ada.get(f"?limit=2&status=queued,finished{cursor and f'&cursor={cursor}'}")
        found, cursor = found + [item["job_id"] for item in page["items"]], page["next_cursor"]
        ada.submit(name="comes meanwhile", queue="medium")
    assert found == newest[:5]
    assert "xxxx" not in json.dumps(ada.get("?limit=200"))
    for query, expected in {
        "queue=fast": newest[0::2], "queue=fast&queue=slow": newest, "status=failed": newest[5:], "error_code=timeout": newest[5:],
        "name=job.N3": [jobs[3].id], f"q={jobs[4].id[:12]}": [jobs[4].id], f"submitter={ada.owner.key}&queue=slow,fast": newest,
        "submitter=key:nobody": [], "created_from=2026-11-22T12:04:00Z&queue=fast,slow": newest[:2],
        "created_to=2026-11-22T12:01:00Z&queue=fast,slow": newest[5:], "ended_from=2026-11-22T12:30:00Z": newest[4:], "retry_of=job_x": [],
        "ended_to=2026-11-22T12:30:00Z": [],
    }.items():  # fmt: skip
        assert boss.ids(query) == expected, query
    for query in (
        "status=done", "limit=0", "limit=201", "limit=x", "cursor=x", "cursor=WzFd", "order=name", "queue=", "name=", "created_from=now",
        "status=queued&name=a&name=b", "org_id=other", "owner=x", f"name={'x' * 300}", "created_to=2026-11-22T12:00:00",
        "target__contains=x",
    ):  # fmt: skip
        assert ada.get(f"?{query}", status=400)["code"] in ("bad_query", "bad_cursor"), query


def test_a_waiting_job_is_cancelled_at_once_a_running_one_is_asked_and_it_is_known_by_whom(ada, boss):
    waiting, running, done = ada.submit(), move(ada.submit(), STARTED), move(ada.submit(), STARTED, FINISHED)
    for _ in range(2):
        assert boss.post(f"/{waiting.id}/cancel", {"reason": "no need"})["status"] == "cancelled"
        asked = ada.post(f"/{running.id}/cancel", {"reason": "too slow"})
        assert asked["status"] == "started" and asked["cancel_requested_at"]
    told = JobEvent.objects.get(job_id=waiting.id)
    assert (told.reason, told.actor.startswith("key ")) == ("no need", True)
    running.refresh_from_db()
    assert (running.cancel_reason, running.cancel_actor.startswith("key ")) == ("too slow", True)
    assert ada.post(f"/{done.id}/cancel", status=409) | {"request_id": ""} == {
        "type": "urn:jobplatform:problem:job_ended", "title": "The job has already ended.", "status": 409,
        "detail": "The job has already ended.", "code": "job_ended", "current_status": "finished", "request_id": "",
    }  # fmt: skip


def test_a_failed_job_is_tried_again_as_a_new_one_and_the_old_one_stays_as_it_is(ada, client):
    old = move(ada.submit(name="Reports.write", retries=3, queue="slow"), STARTED, FAILED, error="No paper.", error_code="error")
    answer = client.post(f"{JOBS}/{old.id}/retry", content_type="application/json", headers=ada.headers)
    assert answer.status_code == 201
    made = answer.json()
    assert answer["Location"] == f"{JOBS}/{made['job_id']}"
    assert (made["retry_of"], made["status"], made["attempt"], made["name"], made["retries"]) == (old.id, "queued", 0, "Reports.write", 3)
    assert ada.get(f"/{old.id}")["status"] == "failed" and ada.ids(f"retry_of={old.id}") == [made["job_id"]]
    ada.post(f"/{made['job_id']}/retry", status=409)
    assert ada.post(f"/{old.id}/retry", {"queue": "fast"}, status=422)["errors"][0]["field"] == "queue"
    assert Job.objects.count() == 2


def test_every_move_is_told_in_its_order(ada):
    job = move(ada.submit(), STARTED, RETRYING, reason="No paper.")
    move(job, STARTED, FINISHED)
    told = [(each["old"], each["new"], each["attempt"], each["reason"]) for each in ada.get(f"/{job.id}/events")["items"]]
    assert told == [
        (None, "queued", 0, ""), ("queued", "started", 1, ""), ("started", "retrying", 1, "No paper."), ("retrying", "started", 2, ""),
        ("started", "finished", 2, ""),
    ]  # fmt: skip


def test_a_job_is_followed_to_its_end_in_the_words_of_its_status_url(ada, client):
    job = move(ada.submit(), STARTED)
    response = client.get(f"{JOBS}/{job.id}/stream", headers=ada.headers)
    assert (response["Content-Type"], response["Cache-Control"]) == ("text/event-stream", "no-store")
    heard: list[bytes] = []
    begun = threading.Event()

    def listen() -> None:
        for chunk in response.streaming_content:
            heard.append(chunk)
            begun.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert begun.wait(30)
    move(job, FINISHED, result=[1, 2])
    listener.join(30)
    assert not listener.is_alive()
    first, last = [json.loads(chunk.split(b"data: ")[1]) for chunk in (heard[0], heard[-1])]
    assert heard[0].startswith(b"event: status") and first["status"] == "started"
    assert heard[-1].startswith(b"event: end") and last == answers.status_body(JobView.of(Job.objects.get()))


def test_what_cannot_be_an_id_is_as_missing_as_what_is_not(ada):
    from urllib.parse import quote

    for job_id in set(BAD_IDS) - {"", ".", ".."}:
        for path in ("", "/events", "/stream"):
            ada.get(f"/{quote(job_id, safe='')}{path}", status=404)
        ada.post(f"/{quote(job_id, safe='')}/cancel", status=404)


def test_a_job_that_has_not_changed_is_not_sent_again(ada, client):
    job = ada.submit()
    first = client.get(f"{JOBS}/{job.id}", headers=ada.headers)
    again = {**ada.headers, "If-None-Match": first["ETag"]}
    same = client.get(f"{JOBS}/{job.id}", headers=again)
    assert (same.status_code, same.content, same["ETag"]) == (304, b"", first["ETag"])
    move(job, STARTED)
    changed = client.get(f"{JOBS}/{job.id}", headers=again)
    assert (changed.status_code, changed.json()["status"]) == (200, "started") and changed["ETag"] != first["ETag"]


def test_the_jobs_that_are_open_are_counted_by_an_index_of_them_alone(ada):
    rows = Job.objects.filter(ended_at__isnull=True).values_list("org_id", "queue", "status").annotate(number=Count("pk")).order_by()
    assert "job_open" in rows.explain()
    done = ada.submit()
    move(done, STARTED, FINISHED)
    ada.submit(queue="rag")
    assert list(rows) == [("acme", "rag", "queued", 1)]
