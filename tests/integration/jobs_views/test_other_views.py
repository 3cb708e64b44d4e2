"""Jobs of plain Django views (synchronous, async, functions) and of classes without a framework."""

from __future__ import annotations

import asyncio
import uuid

import orjson
import pytest
from django.contrib.auth import get_user_model
from django.test import AsyncClient, Client

from apps.core.errors import Invalid, TooLarge
from apps.jobs import JobManagerMixin, PlainRequest, as_job
from apps.jobs.models import Job
from apps.jobs.options import JobOptions
from tests.integration.jobs_views import views
from tests.integration.jobs_views.conftest import only_job

JSON = "application/json"


@pytest.fixture
def bo(jobs):
    """A browser of somebody who is signed in."""
    client = Client()
    client.force_login(get_user_model().objects.create_user("bo"))
    return client


def test_a_plain_view_is_a_job(jobs, bo):
    created = bo.post("/plain?q=1", {"text": "to be"}, content_type=JSON)
    assert (created.status_code, created["Content-Type"], created.json()["status"]) == (202, JSON, "enqueued")
    jobs.run_all()
    status = bo.get(created["Location"]).json()
    assert (status["status"], status["result_status"], status["result"]["user"]) == ("finished", 201, "bo")
    seen = status["result"]
    assert (seen["body"], seen["data"], seen["query"]) == ({"text": "to be"}, {"text": "to be"}, {"q": ["1"]})
    assert (bo.get("/plain").status_code, bo.delete("/plain").status_code) == (405, 405)
    assert bo.head(created["Location"]).content == b""


def test_forms_keep_every_value(jobs, bo):
    created = bo.post("/plain", {"tag": ["a", "b"]})
    jobs.run_all()
    assert bo.get(created["Location"]).json()["result"]["data"] == {"tag": ["a", "b"]}


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", JSON, 400), (b"<a/>", "text/xml", 415), (b"[" * 5000, JSON, 400), (b'"' + b"x" * 1_100_000 + b'"', JSON, 413),
        (b'{"a": "\\u0000"}', JSON, 400),
    ],
)  # fmt: skip
def test_bad_bodies_have_one_shape_in_every_framework(jobs, bo, body, kind, status):
    refused = bo.post("/plain", body, content_type=kind)
    assert (refused.status_code, refused.json()["success"], refused.json()["status_code"]) == (status, False, status)
    assert not Job.objects.exists()


def test_whoever_was_locked_out_meanwhile_has_no_job_run(jobs, bo):
    for path in ("/members", "/plain"):
        assert bo.post(path, {}, content_type=JSON).status_code == 202
    get_user_model().objects.update(is_active=False)
    jobs.run_all()
    assert set(Job.objects.values_list("status", "error_code")) == {("failed", "forbidden")}
    assert Client().post("/members", {}, content_type=JSON).status_code == 403


def test_a_views_own_permissions_are_asked_at_both_ends(jobs, bo, monkeypatch):
    assert bo.post("/hooked").status_code == 202
    monkeypatch.setattr(views.Hooked, "closed", True)
    refused = bo.post("/hooked")
    assert (refused.status_code, refused.json()) == (403, {"success": False, "error": "Closed.", "status_code": 403})
    jobs.run_all()
    assert only_job().error_code == "forbidden"


def test_an_anonymous_job_opens_to_whoever_was_told_its_id(jobs, bo):
    created = Client().post("/plain", {}, content_type=JSON)
    assert bo.get(created["Location"]).status_code == 200
    mine = bo.post("/plain", {}, content_type=JSON)
    assert Client().get(mine["Location"]).status_code == 404


def test_an_async_view_is_a_job_and_never_blocks_its_loop(jobs, bo):
    async def story() -> tuple:
        client = AsyncClient()
        client.cookies = bo.cookies
        created = await client.post("/async", orjson.dumps({"a": 1}), content_type=JSON)
        before = await client.get(created["Location"])
        await asyncio.to_thread(jobs.run_all)
        after = await client.get(created["Location"])
        stream = await client.get(created["Location"], headers={"Accept": "text/event-stream"})
        events = b"".join([chunk async for chunk in stream.streaming_content])
        return created, before, after, events, (await client.get("/async")).status_code

    created, before, after, events, bare = asyncio.run(story())
    assert (created.status_code, before.json()["status"], bare) == (202, "queued", 405)
    assert after.json()["result"] == {"data": {"a": 1}, "user": "bo"}
    assert events.startswith(b"event: end\ndata: ")


def test_a_function_is_a_view_and_a_job(jobs, bo):
    created = bo.post("/function", {"text": "to be or not"}, content_type=JSON)
    assert created.status_code == 202 and only_job().target == "tests.integration.jobs_views.views:function_view"
    jobs.run_all()
    assert bo.get(created["Location"]).json()["result"] == {"words": 4}
    assert Client().get(created["Location"]).status_code == 404
    assert bo.delete(created["Location"]).status_code == 409


# ---- without a framework ------------------------------------------------------------------------------------


def test_a_class_of_its_own_answers_dictionaries(jobs):
    worker = views.Worker()
    created = worker.double(21, plus=1)
    assert (created["success"], created["status"], created["status_url"]) == (True, "enqueued", f"?job_id={created['job_id']}")
    jobs.run_all()
    status = worker._handle_job_status_request(created["job_id"])
    assert (status["status"], status["result"]) == ("finished", 43)
    assert worker._handle_job_status_request("job_x") == {"success": False, "error": "No such job.", "status_code": 404}
    assert worker.get(PlainRequest(query_params={"job_id": created["job_id"]})) == status
    assert worker.get(PlainRequest())["status_code"] == 405
    assert worker.double.run_now(worker, 4) == 8


def test_inline_without_a_framework_is_the_result_itself(jobs):
    worker = views.Worker()
    worker.job_manager = views.eager
    with worker.job_options(return_job_id=False, wait=20):
        assert worker.double(4) == 8


def test_a_function_is_a_job(jobs):
    created = views.triple(3)
    jobs.run_all()
    assert Job.objects.get(pk=created["job_id"]).result == 9


def test_instances_that_need_something_are_made_by_their_class(jobs):
    views.WithoutArguments({"made": "here"}).read()
    jobs.run_all()
    assert only_job().result == {"made": "in the worker"}


def test_what_json_cannot_say_is_named_and_nothing_is_stored(jobs):
    worker, deep = views.Worker(), []
    for _ in range(5000):
        deep = [deep]
    cases = {"args.0": object(), "args.0.a": {"a": {1, 2}}, "args.0.0": [float("nan")], "args.0.b": {"b": "\ud800"}}
    for field, value in cases.items():
        with pytest.raises(Invalid) as refused:
            worker.double(value)
        assert [problem.field for problem in refused.value.problems] == [field]
    with pytest.raises(Invalid):
        worker.double(deep)
    with pytest.raises(TooLarge):
        worker.double("x" * 1_100_000)
    assert not Job.objects.exists()
    worker.double(uuid.UUID(int=0))
    assert only_job().arguments["args"] == [str(uuid.UUID(int=0))]


def test_a_job_may_wait_for_others_that_the_request_names(jobs):
    worker = views.Worker()
    first = worker.double(1)
    worker.later(PlainRequest(data={"after": [first["job_id"]]}))
    with worker.job_options(depends_on=[first["job_id"]], priority="high"):
        worker.double(2)
    assert sorted(Job.objects.values_list("waits_for", "priority")) == [(0, 0), (1, 0), (1, 50)]
    for after in (["job_x"], "job_x", None):
        with pytest.raises(Invalid):
            worker.later(PlainRequest(data={"after": after}))


def test_the_decorator_leaves_everything_else_of_a_method_as_it_was():
    method = views.Documents.post
    assert (method.__name__, method.__doc__, method.__module__) == ("post", "Reads documents.", views.__name__)
    settings = views.Documents.get_async_methods()
    assert set(settings) == {"post", "vectorize", "patch"}
    shown = {name: settings["vectorize"][name] for name in ("queue", "timeout", "result_ttl", "return_job_id")}
    assert shown == {"queue": "rag", "timeout": None, "result_ttl": 500, "return_job_id": True}
    assert JobOptions(**settings["post"]) == method.as_job.options
    assert (views.Again.get_async_methods()["post"]["queue"], set(views.Overriding.get_async_methods())) == ("slow", {"vectorize", "patch"})


@pytest.mark.parametrize(
    ("options", "word"),
    [({"queue": "embedings"}, "embeddings"), ({"timeout": -1}, "timeout"), ({"retires": 1}, "retires"), ({"result_ttl": ""}, "result_ttl")],
)  # fmt: skip
def test_wrong_options_are_told_where_they_are_written(options, word):
    with pytest.raises((TypeError, ValueError), match=word):
        as_job(**options)


def test_what_a_worker_could_not_find_is_told_at_the_first_call(jobs):
    class Local(JobManagerMixin):
        @as_job
        def run(self):
            return 1

    with pytest.raises(TypeError, match="top of a module"):
        Local().run()
    assert not Job.objects.exists()
