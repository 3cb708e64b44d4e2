"""The edge: how errors look on each kind of path, request ids, and what a body may be."""

from __future__ import annotations

import io
import json
import logging

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpResponse
from django.test import RequestFactory
from django.urls import path
from rest_framework import exceptions
from rest_framework.permissions import AllowAny
from rest_framework.views import APIView

from apps.core import errors
from apps.core.http import answer, body_stream, read_json, read_object, request_id

CRASH = {"error": RuntimeError("/secret/path in libfoo")}


class Echo(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]

    def get(self, request):
        return answer({"ok": True, "seen": request_id.get()})

    def post(self, request):
        return answer(read_object(request))

    def put(self, request):
        return answer(request.data)


class Crash(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]

    def get(self, request):
        raise CRASH["error"]


def plain_crash(request):
    raise CRASH["error"]


def page(request):
    return HttpResponse("<p>hello")


urlpatterns = [
    path("api/v1/echo", Echo.as_view()),
    path("api/v1/crash", Crash.as_view()),
    path("internal/echo", Echo.as_view()),
    path("internal/crash", Crash.as_view()),
    path("role-group", Crash.as_view()),
    path("api/v1/plain", plain_crash),
    path("page", page),
]
pytestmark = pytest.mark.urls(__name__)


@pytest.fixture(autouse=True)
def answers_instead_of_raising(client):
    client.raise_request_exception = False


RAISED = [
    (errors.Missing("No task 'x'."), 404, "not_found", "No task 'x'."),
    (errors.Conflict(), 409, "conflict", errors.Conflict.sentence),
    (errors.Unavailable(), 503, "unavailable", errors.Unavailable.sentence),
    (Http404("internals"), 404, "not_found", errors.Missing.sentence),
    (PermissionDenied("internals"), 403, "forbidden", errors.Forbidden.sentence),
    (SuspiciousOperation("internals"), 400, "malformed", errors.Malformed.sentence),
    (OperationalError("database is locked"), 503, "unavailable", errors.Unavailable.sentence),
    (exceptions.Throttled(wait=7), 429, "too_many_requests", "Too many requests."),
    (exceptions.ValidationError({"internals": "x"}), 400, "malformed", errors.Malformed.sentence),
    (RuntimeError("/secret/path in libfoo"), 500, "error", "Something went wrong."),
    (RecursionError("deep"), 500, "error", "Something went wrong."),
]


@pytest.mark.parametrize(("raised", "status", "code", "sentence"), RAISED, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("view", ["/api/v1/crash", "/api/v1/plain"])
def test_under_api_every_exception_becomes_a_problem_document_without_internals(client, view, raised, status, code, sentence):
    CRASH["error"] = raised
    response = client.get(view, headers={"X-Request-Id": "req-1"})
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    assert response.json() == {
        "type": f"urn:jobplatform:problem:{code}",
        "title": response.json()["title"],
        "status": status,
        "detail": sentence,
        "code": code,
        "request_id": "req-1",
    }


def test_the_spec_s_paths_answer_in_the_spec_s_shape(client):
    CRASH["error"] = errors.Invalid([errors.Problem(field="data.task_id", code="missing", message="is required")])
    facts = {"code": "invalid", "errors": [{"field": "data.task_id", "code": "missing", "message": "is required"}], "request_id": "r"}
    internal = client.get("/internal/crash", headers={"X-Request-Id": "r"})
    assert (internal.status_code, internal.json()) == (422, {"error": "The input is not valid.", **facts})
    role_group = client.get("/role-group", headers={"X-Request-Id": "r"})
    assert list(role_group.json().items())[0] == ("success", False)
    assert role_group.json() == {"success": False, "error": "The input is not valid.", **facts}


def test_only_the_facts_an_error_shows_are_shown(client):
    CRASH["error"] = errors.Refused(reason="too big", script="secret")
    assert client.get("/internal/crash", headers={"X-Request-Id": "r"}).json() == {
        "error": "The task was refused.", "code": "refused", "reason": "too big", "request_id": "r",
    }  # fmt: skip


def test_what_may_help_when_tried_again_says_when(client):
    CRASH["error"] = errors.Unavailable()
    assert client.get("/api/v1/crash")["Retry-After"] == "2"
    CRASH["error"] = exceptions.Throttled(wait=7)
    assert client.get("/api/v1/crash")["Retry-After"] == "7"


def test_a_crash_is_logged_once_with_its_trace_and_request_id(client, caplog):
    CRASH["error"] = RuntimeError("boom")
    with caplog.at_level(logging.WARNING):
        client.get("/api/v1/crash", headers={"X-Request-Id": "req-9"})
    (record,) = caplog.records
    assert record.getMessage() == "request.failed" and record.request_id == "req-9" and record.exc_info


@pytest.mark.parametrize("given", ["", "a" * 65, "two words", "line\tbreak", "ünïcode"])
def test_a_request_id_that_is_no_plain_token_is_replaced(client, given):
    response = client.get("/api/v1/echo", headers={"X-Request-Id": given})
    assert response["X-Request-Id"] == response.json()["seen"] != given
    assert len(response["X-Request-Id"]) == 32


def test_a_caller_s_request_id_is_kept(client):
    assert client.get("/api/v1/echo", headers={"X-Request-Id": "ci.run-7"})["X-Request-Id"] == "ci.run-7"
    assert request_id.get() == ""


def test_paths_that_do_not_exist_answer_json_to_programs_and_a_page_to_people(client):
    assert client.get("/api/v1/nothing").json()["code"] == "not_found"
    assert client.get("/internal/nothing").json()["error"] == "Not found."
    assert client.get("/nothing").json()["code"] == "not_found"
    assert client.get("/API/v1/echo").status_code == client.get("/api/v1/echo/").status_code == 404
    html = client.get("/nothing", headers={"Accept": "text/html,*/*"})
    assert html.status_code == 404 and html["Content-Type"].startswith("text/html")


def test_a_wrong_method_is_405_and_names_the_right_ones(client):
    response = client.delete("/api/v1/echo")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert {"GET", "POST", "PUT"} <= set(response["Allow"].split(", "))
    override = client.get("/api/v1/echo", headers={"X-HTTP-Method-Override": "DELETE"})
    assert override.status_code == 200


def test_options_tells_nothing(client):
    assert client.options("/api/v1/echo").status_code == 405


def test_a_host_we_do_not_answer_to_is_400_json(client):
    response = client.get("/api/v1/echo", headers={"Host": "evil.example"})
    assert (response.status_code, response.json()["code"]) == (400, "malformed")


def test_accept_never_stops_an_answer(client):
    assert client.get("/api/v1/echo", headers={"Accept": "text/event-stream"}).status_code == 200
    assert client.get("/api/v1/echo?format=xml").status_code == 200


@pytest.mark.parametrize("method", ["post", "put"])
@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"a":1}', {}, 200),
        (b'{"a":1}', {"Content-Type": "application/json; charset=UTF-8"}, 200),
        (b'{"a":1}', {"Content-Type": "APPLICATION/JSON"}, 200),
        (b'{"a":1,"a":2}', {}, 400),
        (b"{", {}, 400),
        (b'{"a":"\\u0000"}', {}, 422),
        (b'{"a":1}', {"Content-Type": "text/plain"}, 415),
        (b'{"a":1}', {"Content-Type": "application/json; charset=latin-1"}, 415),
        (b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b'{"a":1}', {"Content-Encoding": "gzip"}, 415),
        (b'"' + b"x" * (1024 * 1024) + b'"', {}, 413),
    ],
)
def test_bodies(client, method, body, headers, status):
    headers = {"Content-Type": "application/json", **headers}
    response = getattr(client, method)("/api/v1/echo", data=body, content_type=headers.pop("Content-Type"), headers=headers)
    assert response.status_code == status


@pytest.mark.parametrize(("body", "status"), [(b"", 400), (b"[]", 422), (b"1", 422), (b'"x"', 422), (b"null", 422)])
def test_an_object_is_asked_for(client, body, status):
    assert client.post("/api/v1/echo", data=body, content_type="application/json").status_code == status


class Endless(io.RawIOBase):
    """A body that never ends, counting what was taken of it."""

    taken = 0

    def read(self, size=-1):
        assert size > 0, "an unbounded read of an endless body"
        self.taken += size
        return b" " * size


def request_with(stream, **meta):
    request = RequestFactory().post("/api/v1/echo", data=b"", content_type="application/json")
    request.META.pop("CONTENT_LENGTH", None)
    request.META.update({"CONTENT_TYPE": "application/json", **meta})
    request.environ["wsgi.input"] = stream
    return request


def test_a_body_announced_too_large_is_refused_without_reading_any_of_it():
    stream = Endless()
    with pytest.raises(errors.TooLarge):
        read_json(request_with(stream, CONTENT_LENGTH=str(1024 * 1024 + 1)))
    assert stream.taken == 0


def test_a_chunked_body_is_read_and_one_without_end_is_left_at_the_limit():
    assert read_json(request_with(io.BytesIO(b'{"a":[1,2]}'), HTTP_TRANSFER_ENCODING="chunked")) == {"a": [1, 2]}
    stream = Endless()
    with pytest.raises(errors.TooLarge):
        read_json(request_with(stream, HTTP_TRANSFER_ENCODING="chunked"))
    assert stream.taken == 1024 * 1024 + 1


@pytest.mark.parametrize("length", ["x", "-1", "1e3", "²"])
def test_a_length_that_is_no_number_is_malformed(length):
    with pytest.raises(errors.Malformed):
        read_json(request_with(io.BytesIO(b"{}"), CONTENT_LENGTH=length))


def test_a_stream_of_another_type_is_read_line_by_line():
    request = request_with(io.BytesIO(b"{}\n{}\n"), CONTENT_TYPE="application/x-ndjson", HTTP_TRANSFER_ENCODING="chunked")
    assert list(body_stream(request, media_type="application/x-ndjson")) == [b"{}\n", b"{}\n"]


def test_answers_of_the_api_are_not_kept_by_caches(client):
    assert client.get("/api/v1/echo")["Cache-Control"] == "no-store"
    assert json.loads(client.get("/internal/echo").content)["ok"]
