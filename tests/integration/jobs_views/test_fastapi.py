"""FastAPI routes as jobs, through its ASGI application."""

from __future__ import annotations

import asyncio
import os

import httpx
import pytest

from apps.jobs.models import Job
from tests.integration.jobs_views.conftest import only_job
from tests.integration.jobs_views.fastapi_app import app

PATH = "/shops/7/orders"


class Browser:
    """Asks the application, each time on a loop of its own."""

    def __init__(self, user: str = "bo") -> None:
        self.headers = {"x-user": user} if user else {}

    def __call__(self, method: str, path: str, headers: dict[str, str] | None = None, **body) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as client:
                return await client.request(method, path, headers={**self.headers, **(headers or {})}, **body)

        return asyncio.run(ask())


@pytest.fixture
def bo(jobs):
    return Browser()


def test_a_route_is_a_job_with_the_parameters_of_its_method(jobs, bo):
    created = bo("POST", f"{PATH}?q=1", json={"item": "tea", "count": 3})
    assert (created.status_code, created.json()["status"]) == (202, "enqueued")
    url = created.headers["location"]
    assert url == f"{PATH}?job_id={created.json()['job_id']}"
    first = bo("GET", url)
    assert (first.json()["status"], bo("GET", url, headers={"if-none-match": first.headers["etag"]}).status_code) == ("queued", 304)
    jobs.run_all()
    assert bo("GET", url).json()["result"] == {"total": 6, "shop": 7, "user": "bo", "item": "tea"}
    assert "event: end" in bo("GET", url, headers={"accept": "text/event-stream"}).text
    assert bo("GET", PATH).status_code == 405


def test_what_fastapi_or_we_refuse_stores_nothing(jobs, bo):
    assert bo("POST", PATH, json={"count": 3}).status_code == 422
    assert Browser("")("POST", PATH, json={"item": "tea"}).status_code == 401
    for content, kind, status in ((b"{", "application/json", 400), (b"x" * 1_100_000, "application/json", 413), (b"<a/>", "text/xml", 415)):
        refused = bo("PUT", PATH, content=content, headers={"content-type": kind})
        assert (refused.status_code, refused.json()["success"], refused.json()["status_code"]) == (status, False, status)
    assert not Job.objects.exists()


def test_other_peoples_jobs_are_no_jobs(jobs, bo):
    url = bo("PUT", PATH, json={}).headers["location"]
    answers = [Browser("al")("GET", url), Browser("al")("DELETE", url), bo("GET", f"{PATH}?job_id=job_1")]
    body = {"success": False, "error": "No such job.", "status_code": 404}
    assert [(each.status_code, each.json()) for each in answers] == [(404, body)] * 3
    assert bo("DELETE", url).json()["status"] == "cancelled"


def test_forms_and_files_travel(jobs, bo, tmp_path):
    created = bo("PUT", f"{PATH}?q=1&q=2", data={"title": "notes"}, files={"paper": ("n.txt", b"be prepared")})
    assert created.status_code == 202, created.text
    jobs.run_all()
    result = bo("GET", created.headers["location"]).json()["result"]
    assert result == {"data": {"title": ["notes"]}, "files": {"paper": "be prepared"}, "path": PATH, "q": ["1", "2"], "shop": 7}
    assert len(os.listdir(tmp_path)) == 1


def test_a_route_may_call_a_method_of_an_adapter(jobs, bo):
    created = bo("POST", "/task")
    assert (created.status_code, created.json()["status"]) == (200, "enqueued")
    jobs.run_all()
    assert only_job().result == 2


def test_a_function_is_a_route_and_a_job(jobs, bo):
    assert bo("POST", "/direct", json={"a": 1}).status_code == 202
    jobs.run_all()
    assert only_job().result == {"direct": 1}


def test_the_openapi_document_says_what_a_job_answers():
    routes = app.openapi()["paths"]["/shops/{shop}/orders"]
    assert set(routes["post"]["responses"]) >= {"202", "400", "422"}
    created = routes["post"]["responses"]["202"]["content"]["application/json"]["schema"]
    assert set(created["properties"]) == {"success", "job_id", "status", "message", "status_url"}
    assert {each["name"] for each in routes["get"]["parameters"]} == {"job_id"}
