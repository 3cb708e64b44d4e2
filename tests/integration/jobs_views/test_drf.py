"""Views of Django REST framework as jobs, through Django's test client."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.core import clock
from apps.jobs import files, upkeep
from apps.jobs.models import Job
from apps.jobs.snapshot import copied, erase
from apps.orgs import keys
from tests.factories import NOON, bearer
from tests.integration.jobs_views import views
from tests.integration.jobs_views.conftest import only_job


def test_a_call_is_answered_at_once_and_its_status_to_the_end(jobs, sam):
    created = sam.post("/documents?a=1&a=2", {"text": "to be"}, Accept_Language="de")
    body = created.json()
    url = body["status_url"]
    assert (created.status_code, created["Location"], created["Retry-After"]) == (202, url, "1")
    assert re.fullmatch(r"job_[A-Za-z0-9_-]{22,}", body["job_id"]) and url == f"/documents?job_id={body['job_id']}"
    assert body == {"success": True, "job_id": body["job_id"], "status": "enqueued", "message": body["message"], "status_url": url}

    waiting = sam.get(url)
    assert waiting.status_code == 200 and waiting["Retry-After"] == "1"
    assert {**waiting.json(), "created_at": 0} == {
        "success": True, "job_id": body["job_id"], "status": "queued", "created_at": 0, "started_at": None, "ended_at": None,
        "message": "The job waits for a worker.", "progress": None,
    }  # fmt: skip

    assert jobs.run_all() == 1
    done = sam.get(url).json()
    assert (done["success"], done["status"], done["result_status"], "error" in done) == (True, "finished", 201, False)
    assert done["started_at"] <= done["ended_at"]
    assert done["result"] == {
        "method": "POST", "path": "/documents", "query": {"a": ["1", "2"]}, "data": {"text": "to be"}, "files": {},
        "headers": {"host": "testserver", "content-type": "application/json", "accept-language": "de"},
        "url": "http://testserver/documents?a=1&a=2", "user": sam.key.split("_")[1],
    }  # fmt: skip
    assert only_job().target == "tests.integration.jobs_views.views:Documents.post"


def test_a_helper_that_a_view_calls_is_a_job_of_its_own(jobs, sam):
    created = sam.ask("PUT", "/documents", {"words": "a b"})
    assert (created.status_code, only_job().queue, only_job().name) == (202, "rag", "Documents.vectorize")
    jobs.run_all()
    assert sam.get(created.json()["status_url"]).json()["result"] == {"vectors": "a b"}


def test_what_a_serializer_refuses_is_named_and_nothing_is_stored(jobs, sam):
    refused = sam.ask("PUT", "/documents", {"times": 0})
    assert (refused.status_code, {error["field"] for error in refused.json()["errors"]}) == (400, {"words", "times"})
    assert not Job.objects.exists()


def test_uploads_travel_by_reference_and_are_erased_with_the_job(jobs, sam, tmp_path):
    upload = SimpleUploadedFile("../../notes.txt", b"be prepared", content_type="text/plain")
    created = sam.client.post("/documents", {"title": ["a", "b"], "paper": upload}, headers=bearer(sam.key))
    assert created.status_code == 202, created.content
    (ref,) = only_job().request["files"]
    assert (ref["name"], ref["size"], ref["content_type"], len(list(tmp_path.iterdir()))) == ("notes.txt", 11, "text/plain", 1)
    jobs.run_all()
    result = sam.get(created.json()["status_url"]).json()["result"]
    assert (result["files"], result["data"]["title"]) == ({"paper": ["notes.txt", "be prepared", ref["sha256"][:8]]}, ["a", "b"])

    other = copied(only_job().request)
    for _ in range(2):
        erase(only_job().request)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["be prepared"]
    erase(other)
    assert not list(tmp_path.iterdir())


def test_an_async_method_answers_inline_when_it_ends_in_time(jobs, sam):
    done = sam.ask("PATCH", "/eager", {"a": 1})
    assert (done.status_code, done.json()) == (200, {"patched": {"a": 1}})
    assert sam.ask("PATCH", "/eager", {"later": 1}).status_code == 202  # the method's own status
    failed = sam.ask("PATCH", "/eager", {"fail": 1})
    assert (failed.status_code, failed.json()["success"], failed.json()["error"]) == (500, False, "ValueError: no such thing")


def test_an_upload_whose_job_was_never_written_is_deleted_an_hour_later(jobs, sam, tmp_path):
    upload = SimpleUploadedFile("notes.txt", b"be prepared", content_type="text/plain")
    assert sam.client.post("/documents", {"paper": upload}, headers=bearer(sam.key)).status_code == 202
    (kept,) = tmp_path.iterdir()
    files.keep([("paper", upload)])  # as far as a process came that died before it wrote the row
    assert len(list(tmp_path.iterdir())) == 2
    assert upkeep.sweep_files(now=clock.now() + timedelta(minutes=59)) == 0
    assert upkeep.sweep_files(now=clock.now() + timedelta(minutes=61)) == 1
    assert list(tmp_path.iterdir()) == [kept]
    jobs.run_all()
    assert only_job().status == "finished"


SAID = {
    "serializer": (400, "invalid", [("words", "required", "This field is required."),
                                    ("times", "min_value", "Ensure this value is greater than or equal to 1.")]),
    "field": (400, "invalid", [("paper.pages", "invalid", "too many"), ("paper.pages", "invalid", "too long")]),
    "django": (400, "invalid", [("age", "young", "not yet 18")]),
    "denied": (403, "permission_denied", None),
    "gone": (404, "not_found", None),
    "404": (404, "not_found", None),
    "busy": (429, "throttled", None),
    "passing": (400, "parse_error", None),
    "ours": (422, "invalid", [("a", "wrong", "is wrong")]),
}  # fmt: skip


def test_what_a_method_raises_for_its_caller_is_answered_with_its_own_status_field_by_field(jobs, sam):
    for name, (status, code, problems) in SAID.items():
        answer = sam.ask("PATCH", "/eager", {"raise": name})
        body = answer.json()
        said = [(each["field"], each["code"], each["message"]) for each in body["errors"]] if "errors" in body else None
        assert (name, answer.status_code, body["status_code"], body["error_code"], said) == (name, status, status, code, problems)
        assert (body["success"], body["status"], body["result_status"]) == (False, "failed", status)
        assert sam.get(f"/eager?job_id={body['job_id']}").json()["error"] == body["error"]
    gone = sam.ask("PATCH", "/eager", {"raise": "gone"}).json()
    assert gone["error"] == "There is no such paper."


def test_what_is_the_callers_fault_is_not_tried_again_unless_the_exception_says_so(jobs, sam):
    """A retry would only say the same again; an exception with `retry_helps` knows better, and so does "too many requests"."""
    retried = {}
    for name in SAID:
        job = sam.ask("PATCH", "/tried", {"raise": name}, Prefer="respond-async").json()["job_id"]
        jobs.run_all()
        retried[name] = Job.objects.get(pk=job).status == "retrying"
    assert {name for name, again in retried.items() if again} == {"busy", "passing"}


def test_the_client_may_prefer_to_wait_or_not_to(jobs, sam, settings):
    late = sam.ask("PATCH", "/eager", {}, Prefer="respond-async")
    assert (late.status_code, late["Preference-Applied"], late.json()["status"]) == (202, "respond-async", "enqueued")
    inline = sam.ask("POST", "/eager", {"text": "x"}, Prefer="respond-async, wait=20")
    assert (inline.status_code, inline["Preference-Applied"], inline.json()["data"]) == (201, "wait=20", {"text": "x"})
    asked = sam.get(late.json()["status_url"], Prefer="wait=20")
    assert (asked.json()["status"], asked["Preference-Applied"]) == ("finished", "wait=20")
    settings.JOBS_MAX_WAIT_S = 0.01  # nobody runs this one
    none = sam.post("/documents", {}, Prefer="wait=1, respond-async")
    assert (none.status_code, none["Preference-Applied"]) == (202, "respond-async, wait=1")


def test_own_get_is_asked_when_there_is_no_job_id_whatever_the_order_of_parents(jobs, sam):
    path = "/own/6f1b9a3e-6e0c-4b0e-9c55-5a7d2f3c4b1a"
    assert sam.get(path).json() == {"own": path[5:], "type": "UUID"}
    created = sam.post(path, {"key": "k"}).json()
    assert sam.get(created["status_url"]).json()["status"] == "queued"
    jobs.run_all()
    assert sam.get(created["status_url"]).json()["result"] == {"pk": path[5:], "type": "UUID", "view": "UUID"}


def test_without_a_get_of_its_own_a_view_answers_405_as_its_framework_does(jobs, sam):
    assert sam.get("/documents").status_code == 405
    assert sam.ask("DELETE", "/documents").status_code == 405
    assert sam.ask("HEAD", sam.post("/documents").json()["status_url"]).status_code == 200


def test_an_override_looks_first_and_hands_over(jobs, sam):
    assert sam.post("/overriding", {"refuse": 1}).status_code == 400
    created = sam.post("/overriding", {"a": 1}).json()
    assert only_job().target.endswith(":Overriding.post")
    jobs.run_all()
    assert sam.get(created["status_url"]).json()["result"]["data"] == {"a": 1}


def test_in_a_job_its_parents_job_is_a_part_of_it(jobs, sam):
    created = sam.post("/again", {"a": 1}).json()
    jobs.run_all()
    assert sam.get(created["status_url"]).json()["result"] == {"parent": {"a": 1}, "class": "Again"}
    assert only_job().queue == "slow"


def test_view_sets_keep_their_routes_and_what_the_url_table_says(jobs, sam):
    assert sam.get("/shelf").json() == {"shelf": "none"}
    created = sam.post("/labelled", {"a": 1}).json()
    sorted_ = sam.post("/shelf/7/sort").json()
    jobs.run_all()
    result = {"created": {"a": 1}, "label": "by URL", "action": "create"}
    assert sam.get(created["status_url"]).json()["result"] == result
    # GET of the list route is an action of the set; the job is asked after first.
    assert sam.get(f"/shelf?job_id={created['job_id']}").json()["result"] == result
    assert sam.get(sorted_["status_url"]).json()["result"] == {"sorted": "7"}


def test_other_peoples_jobs_and_no_jobs_have_one_answer(jobs, sam, caller):
    mine = sam.post("/documents").json()["job_id"]
    answers = [sam.get(f"/documents?job_id={job_id}") for job_id in ("", "job_", "x" * 5000, "job_" + "0" * 32, "../etc", "é", mine[:-1])]
    answers += [Other.get(f"/documents?job_id={mine}") for Other in (caller(), caller("operator", org="other"))]
    answers += [caller().ask("DELETE", f"/documents?job_id={mine}")]
    body = {"success": False, "error": "No such job.", "status_code": 404}
    assert [(each.status_code, each.json()) for each in answers] == [(404, body)] * len(answers)
    assert only_job().status == "queued"
    assert caller("operator").get(f"/documents?job_id={mine}").status_code == 200


def test_a_job_is_cancelled_where_its_status_is(jobs, sam):
    url = sam.post("/documents").json()["status_url"]
    for _ in range(2):
        cancelled = sam.ask("DELETE", url)
        assert (cancelled.status_code, cancelled.json()["success"], cancelled.json()["status"]) == (200, True, "cancelled")
    assert sam.get(url).json()["success"] is False
    done = sam.post("/documents").json()["status_url"]
    jobs.run_all()
    assert sam.ask("DELETE", done).status_code == 409


def test_a_status_that_has_not_changed_is_not_sent_again(jobs, sam):
    url = sam.post("/documents").json()["status_url"]
    first = sam.get(url)
    assert sam.get(url, If_None_Match=first["ETag"]).status_code == 304
    assert sam.get(url, If_None_Match=f'"x", W/{first["ETag"]}').content == b""
    jobs.run_all()
    assert sam.get(url, If_None_Match=first["ETag"]).json()["status"] == "finished"


def test_a_status_can_be_followed_to_its_end(jobs, sam):
    url = sam.post("/eager", {"text": "x"}).json()["status_url"]
    stream = sam.get(url, Accept="text/event-stream")
    assert (stream.status_code, stream["Content-Type"]) == (200, "text/event-stream")
    text = b"".join(stream.streaming_content).decode()
    events = re.findall(r"event: (\w+)\ndata: (.*)\n\n", text)
    assert events[-1][0] == "end" and '"finished"' in events[-1][1] and {name for name, _ in events[:-1]} <= {"status"}
    assert sam.get("/eager?job_id=job_0", Accept="text/event-stream").status_code == 404


def test_a_key_revoked_meanwhile_runs_nothing(jobs, sam):
    url = sam.post("/documents").json()["status_url"]
    keys.revoke(sam.key.split("_")[1], by="tests", now=NOON)
    jobs.run_all()
    job = only_job()
    assert (job.status, job.error_code) == ("failed", "forbidden")
    assert sam.get(url).status_code == 401


def test_permissions_are_asked_again_when_it_runs(jobs, sam, monkeypatch):
    from apps.orgs.access import RequireRole

    url = sam.post("/documents").json()["status_url"]
    monkeypatch.setattr(views.Documents, "permission_classes", [RequireRole("org_admin")])
    jobs.run_all()
    assert (only_job().status, only_job().error_code) == ("failed", "forbidden")
    monkeypatch.undo()
    assert sam.get(url).json()["error_code"] == "forbidden"


def test_an_idempotency_key_makes_one_job_of_many_requests(jobs, sam, caller):
    first = sam.post("/documents", {"a": 1}, Idempotency_Key="k")
    again = sam.post("/documents", {"a": 1}, Idempotency_Key="k")
    assert (again.status_code, again.json()["job_id"]) == (202, first.json()["job_id"])
    assert sam.post("/documents", {"a": 2}, Idempotency_Key="k").status_code == 409
    assert caller().post("/documents", {"a": 1}, Idempotency_Key="k").json()["job_id"] != first.json()["job_id"]


def test_options_may_depend_on_the_request(jobs, sam):
    path = "/own/6f1b9a3e-6e0c-4b0e-9c55-5a7d2f3c4b1a"
    first, again, other = (sam.post(path, {"key": key}).json() for key in ("k", "k", "l"))
    assert first["job_id"] == again["job_id"] != other["job_id"]
    refused = sam.post(path, {})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "unique_key")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400), (b"\xff", 400), (b'{"a": NaN}', 400), (b'{"a": "\\ud800"}', 400), (b"[" * 100_000, 400),
        (b'{"a": ' * 40 + b"1" + b"}" * 40, 400), (b'"' + b"x" * 1_100_000 + b'"', 413),
    ],
)  # fmt: skip
def test_hostile_bodies_are_refused_and_nothing_is_stored(jobs, sam, body, status):
    refused = sam.post("/documents", body)
    assert refused.status_code == status, refused.content
    assert not Job.objects.exists()


def test_files_too_large_or_too_many_are_refused_and_nothing_is_kept(jobs, sam, settings, tmp_path):
    settings.JOBS_MAX_UPLOAD_BYTES, settings.JOBS_MAX_FILES = 1000, 2
    for sizes in ([1001], [600, 600], [1, 1, 1]):
        files = {f"f{index}": SimpleUploadedFile("x", b"x" * size) for index, size in enumerate(sizes)}
        refused = sam.client.post("/documents", files, headers=bearer(sam.key))
        assert (refused.status_code, refused.json()["success"]) == (413, False)
    assert not Job.objects.exists() and not list(tmp_path.iterdir())


def test_credentials_never_travel(jobs, sam, settings):
    settings.JOBS_REQUEST_HEADERS = ["Authorization", "Cookie", "X-Api-Key", "Accept-Language", "Proxy-Authorization"]
    secrets = {"Cookie": "session=canary", "X_Api_Key": "canary", "Proxy_Authorization": "canary", "Accept_Language": "de"}
    sam.post("/documents", {}, **secrets)
    row = str(list(Job.objects.values()))
    assert "canary" not in row and sam.key not in row and sam.key.split("_", 2)[2] not in row
    assert only_job().request["headers"] == {"accept-language": "de"}


def test_without_a_key_nothing_is_made(jobs, sam):
    assert sam.client.post("/documents", {}, content_type="application/json").status_code == 401
    assert not Job.objects.exists()
