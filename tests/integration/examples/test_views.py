"""The views of the examples in one process: what they take, what they refuse by name, and the pipeline that hangs together by
`depends_on`. The journey through real workers and agents is in tests/acceptance/test_spec_003.py."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apps.jobs import backends
from apps.jobs.backends.memory import MemoryBackend
from apps.jobs.models import Job
from examples.jobs.views import Documents, Questions, Workflows
from jobplatform.env import BASE_DIR
from tests.factories import bearer, make_key

pytestmark = pytest.mark.django_db

SAMPLES = BASE_DIR / "examples/jobs/samples"


@pytest.fixture
def jobs(redis, settings, tmp_path):
    from django.core.files.storage import storages

    settings.ROOT_URLCONF, settings.JOBS_BACKEND = "tests.integration.examples.urls", "memory"
    settings.STORAGES = {**settings.STORAGES, "jobs": {**settings.STORAGES["jobs"], "OPTIONS": {"location": str(tmp_path)}}}
    storages.__init__()
    backend = MemoryBackend(threads=0)
    backends.adopt(backend)
    yield backend
    backends.adopt(None, "memory")


class Caller:
    def __init__(self, role: str = "submitter", org: str = "acme") -> None:
        self._client, self._given = Client(), bearer(make_key(org, role=role, subject_id=role))

    def post(self, path: str, data: Any) -> Any:
        return self._client.post(path, data, content_type="application/json", headers=self._given)

    def upload(self, *files: tuple[str, bytes], **fields: str) -> Any:
        data = {**fields, "files": [SimpleUploadedFile(name, content) for name, content in files]}
        return self._client.post("/examples/documents", data, headers=self._given)

    def get(self, path: str) -> Any:
        return self._client.get(path, headers=self._given)


@pytest.fixture
def sam(jobs) -> Caller:
    return Caller()


def test_the_methods_say_where_they_run_and_for_how_long():
    methods = [each for view in (Documents, Questions, Workflows) for each in view.get_async_methods().items()]
    assert {name: (settings["queue"], settings["timeout"]) for name, settings in methods} == {
        "ingest_documents": ("document_processing", 7200),
        "rag_query": ("rag_queries", 300),
        "execute_agent_workflow": ("agent_workflows", 1800),
    }


@pytest.mark.django_db(transaction=True)
def test_a_question_waits_for_the_documents_and_answers_with_its_sources(sam, jobs):
    brought = sam.upload(("planets.docx", (SAMPLES / "planets.docx").read_bytes())).json()
    asked = sam.post("/examples/questions", {"question": "Which planet is the hottest?", "after": [brought["job_id"]], "top_k": 3}).json()
    assert sam.get(asked["status_url"]).json()["status"] == "queued"
    jobs.run_all()
    ended = sam.get(asked["status_url"]).json()["result"]
    assert ended["known"] and ended["answer"].startswith("Venus is about as large as the Earth")
    assert "planets.docx, Venus" in {source["place"] for source in ended["sources"]}
    documents = sam.get(brought["status_url"]).json()
    assert documents["result"]["chunks"] == documents["result"]["documents"][0]["chunks"] > 9
    assert [entry["name"] for entry in sam.get("/examples/documents").json()["items"]] == ["planets.docx"]
    agent = Caller("agent").post("/examples/search", {"question": "Which planet is the hottest?"}).json()["passages"]
    assert len(agent) == 4 and {passage["document"] for passage in agent} == {"planets.docx"}
    assert Caller(org="other").get("/examples/documents").json() == {"items": []}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("questions", {}, "question"),
        ("questions", {"question": ""}, "question"),
        ("questions", {"question": "?", "top_k": 0}, "top_k"),
        ("questions", {"question": "?", "collection": "a/b"}, "collection"),
        ("questions", {"question": "?", "tok_p": 3}, "tok_p"),
        ("questions", {"question": "?", "after": ["job_of_nobody"]}, "depends_on"),
        ("questions", {"question": "?", "after": 7}, "depends_on"),
        ("search", {"question": 7, "document": []}, "document"),
        ("workflows", {"topic": "Tea", "questions": []}, "questions"),
        ("workflows", {"topic": "x" * 201, "questions": ["?"]}, "topic"),
    ],
)
def test_what_is_wrong_is_named_and_makes_no_job(sam, path, body, field):
    answer = sam.post(f"/examples/{path}", body)
    assert 400 <= answer.status_code < 500
    assert field in {problem["field"] for problem in answer.json()["errors"]}
    assert not Job.objects.exists()


def test_files_are_judged_before_a_job_is_made_of_them(sam):
    for answer, said in (
        (sam.upload(), "files"),
        (sam.upload(("a.md", b"x"), ("a.md", b"y")), "same name"),
        (sam.upload(("a.md", b"")), "empty"),
        (sam.upload(("a.md", b"x"), collection="a b"), "collection"),
        (sam.post("/examples/documents", {"files": ["a"]}), ""),
    ):
        assert 400 <= answer.status_code < 500 and said in answer.content.decode()
    assert not Job.objects.exists()


def test_only_who_may_submit_may_ask_and_agents_may_search(jobs):
    agent = Caller("agent")
    for path, body in (("questions", {"question": "?"}), ("workflows", {"topic": "Tea", "questions": ["?"]})):
        assert agent.post(f"/examples/{path}", body).status_code == 403
    assert Client().post("/examples/search", {"question": "?"}, content_type="application/json").status_code == 401
    assert agent.post("/examples/search", {"question": "?"}).json() == {"passages": []}
