"""The JobManagerMixin document on a whole platform: its patterns, its methods as they are written, its three use cases.

docs/spec-map-jobs.md maps the sentences of the document to the tests that show them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from examples.jobs.client import Platform
from jobplatform.env import BASE_DIR
from jobplatform_sdk import Client, verify_webhook
from tests.integration.webhooks.receiver import Receiver
from tests.processes import wait_until

pytestmark = pytest.mark.acceptance

JOB_ID = re.compile(r"job_[A-Za-z0-9_-]{20,}")


@pytest.fixture(scope="module")
def sam(org) -> Platform:
    return Platform(org.stack.url, org.keys["sam"])


def done(platform: Platform, method: str, **data: Any) -> dict[str, Any]:
    return platform.ended(platform.submit(f"/spec-003/{method}", json=data)["status_url"])


# ---- request flow ----------------------------------------------------------------------------------------


def test_a_request_makes_a_job_and_its_status_url_tells_the_result(org, sam):
    """Patterns A and B."""
    made = org.api.post("/spec-003/process_documents", {"action": "vectorize", "documents": ["a", "b"]})
    assert made.status == 202 and made.json["success"] is True and made.json["status"] == "enqueued"
    job_id = made.json["job_id"]
    assert JOB_ID.fullmatch(job_id) and made.json["status_url"] == f"/spec-003/process_documents?job_id={job_id}"
    seen = list(sam.follow(made.json["status_url"]))
    assert {one["status"] for one in seen} <= {"queued", "started", "finished"} and seen[-1]["success"] is True
    ended = org.api.get(made.json["status_url"])
    assert ended.status == 200 and ended.json == seen[-1]
    assert ended.json["result"] == {"documents": 2, "by": "sam"}
    assert ended.json["created_at"] <= ended.json["started_at"] <= ended.json["ended_at"]
    tag = {name.lower(): value for name, value in ended.headers.items()}["etag"]
    assert org.api.get(made.json["status_url"], **{"If-None-Match": tag}).status == 304


def test_get_without_a_job_id_is_the_parents_and_a_job_of_somebody_else_is_not_found(org, make_org):
    assert "process_documents" in org.api.get("/spec-003/any").json["methods"]
    made = org.api.post("/spec-003/quick_lookup").json
    of_another, unknown = make_org().api.get(made["status_url"]), org.api.get("/spec-003/quick_lookup?job_id=job_none")
    assert (of_another.status, unknown.status) == (404, 404) and of_another.json == unknown.json
    assert unknown.json["success"] is False and unknown.json["status_code"] == 404


def test_a_job_that_fails_says_why_and_the_server_goes_on(org, sam):
    failed = done(sam, "process_documents", fail=True)
    assert (failed["status"], failed["success"]) == ("failed", False) and "the documents are not there" in failed["error"]
    assert done(sam, "process_documents", documents=[])["status"] == "finished"


def test_many_jobs_at_once_each_give_their_own_result(sam):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda size: done(sam, "process_documents", documents=[0] * size)["result"]["documents"], range(24)))
    assert found == list(range(24))


def test_the_openapi_document_of_the_platform_knows_its_views_of_jobs(org):
    paths = org.api.get("/api/schema?format=json").json["paths"]
    made, asked = paths["/sums"]["post"], paths["/examples/questions"]
    assert "202" in made["responses"] and {"202", "400"} <= asked["post"]["responses"].keys()
    assert [one["name"] for one in asked["get"]["parameters"]] == ["job_id"] and "200" in asked["get"]["responses"]
    assert "multipart/form-data" in paths["/examples/documents"]["post"]["requestBody"]["content"]


# ---- queues, and what the document calls future -----------------------------------------------------------


def test_the_methods_of_the_document_run_on_their_queues_as_they_are_written(org, sam):
    wanted = {"quick_lookup": "fast", "standard_processing": "medium", "batch_processing": "slow", "run_inference": "gpu",
              "urgent_task": "high_priority"}  # fmt: skip
    made = {method: sam.submit(f"/spec-003/{method}", json={}) for method in wanted}
    assert {method: sam.ended(job["status_url"])["result"]["queue"] for method, job in made.items()} == wanted
    for method, job in made.items():
        row = org.api.get(f"/api/v1/jobs/{job['job_id']}").json
        assert (row["queue"], row["priority"] > 0) == (wanted[method], method == "urgent_task")
    assert done(sam, "async_method")["result"] == {"done": "asynchronously"}


def test_a_job_waits_for_those_it_depends_on(sam):
    parts = [sam.submit("/spec-003/process_large_dataset", json={"items": list(range(50))}) for _ in range(2)]
    whole = sam.ended(sam.submit("/spec-003/aggregate_results", json={"after": [job["job_id"] for job in parts]})["status_url"])
    ended = [sam.ended(job["status_url"]) for job in parts]
    assert [one["status"] for one in (*ended, whole)] == ["finished"] * 3
    assert whole["started_at"] >= max(one["ended_at"] for one in ended)


def test_progress_is_told_and_never_goes_back(sam):
    seen = list(sam.follow(sam.submit("/spec-003/process_large_dataset", json={"items": list(range(200))})["status_url"]))
    told = [one["progress"] for one in seen if one.get("progress") is not None]
    assert told == sorted(told) and all(0 <= percent <= 100 for percent in told)
    assert seen[-1]["result"]["items"][-1] == 199 * 199


def test_the_end_of_a_job_is_told_to_its_webhook_signed(make_org):
    org, receiver = make_org(outbound_allow=["127.0.0.1"]), Receiver()
    try:
        sam, callback = Platform(org.stack.url, org.keys["sam"]), f"{receiver.url}/callback"
        first = done(sam, "train_model", callback=callback)
        assert first["result"] == {"accuracy": 0.9}
        with Client(org.stack.url, org.keys["ann"]) as ann:
            (endpoint,) = ann.webhooks()["items"]
            secret = ann.rotate_webhook_secret(endpoint["endpoint_id"])["secret"]
        second = done(sam, "train_model", callback=callback)["job_id"]

        def told() -> list[Any]:
            return [got for got in receiver.got if second in got.body.decode()]

        (got, *_) = wait_until(told, what="the callback came", seconds=60)
        assert verify_webhook(got.body, got.headers, secret)["data"]["job_id"] == second
    finally:
        receiver.close()


# ---- the three use cases ----------------------------------------------------------------------------------


def test_documents_become_answers_with_sources_and_four_agents_write_an_article(org, tmp_path):
    """Upload → vectorize → query → results, and research → analysis → writing → review, as `python -m examples.jobs` has it."""
    run = subprocess.run(
        [sys.executable, "-m", "examples.jobs"],
        env={**os.environ, "JOBPLATFORM_URL": org.stack.url, "JOBPLATFORM_API_KEY": org.keys["ann"], "COLUMNS": "200",
             "PYTHONPATH": f"{BASE_DIR}/sdk:{BASE_DIR}"},
        cwd=BASE_DIR, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr + org.stack.log()
    for said in (
        "human_rights.pdf: 6 pages, ", "planets.docx: ", "fables.txt: ",
        "Everyone has the right to leave any country, including his own, and to return to his country. [1]",
        "[1] human_rights.pdf, Article 13, page 2", "The documents do not say.",
        "researcher → analyst → writer → reviewer",
        "No one shall be subjected to arbitrary arrest, detention or exile.", "human_rights.pdf, Article 9, page 2",
        "sentences against their sources: approved",
    ):  # fmt: skip
        assert said in run.stdout, run.stdout
    with Client(org.stack.url, org.keys["ann"]) as ann:
        session = next(ann.sessions(limit=1))
        done_by = {item["path"]: item["task_id"] for path in ("gathering.research", "newsroom.review")
                   for item in ann.session_items(session.session_id, path)}  # fmt: skip
        agents = {path: ann.get(task_id).agent for path, task_id in done_by.items()}
    assert session.completed and agents == {"gathering.research": "researcher", "newsroom.review": "reviewer"}


def test_what_cannot_be_read_is_told_and_the_rest_is_taken_in(sam):
    fine, broken = ("files", ("a.md", b"# Tea\n\nTea is made with hot water.")), ("files", ("b.pdf", b"no pdf"))
    some = sam.ended(sam.submit("/examples/documents", files=[fine, broken], data={"collection": "tea"})["status_url"])
    assert [entry["name"] for entry in some["result"]["documents"]] == ["a.md"]
    assert some["result"]["unread"][0]["field"] == "b.pdf" and "not a PDF" in some["result"]["unread"][0]["message"]
    none = sam.ended(sam.submit("/examples/documents", files=[broken])["status_url"])
    assert none["status"] == "failed" and "b.pdf is not a PDF" in none["error"]


def test_a_workflow_that_is_cancelled_takes_its_session_along(make_org):
    org = make_org(agents={"researcher": {}})  # who is not there: the session waits for him
    sam = Platform(org.stack.url, org.keys["sam"])
    job = sam.submit("/examples/workflows", json={"topic": "Tea", "questions": ["How is tea made?"]})
    with Client(org.stack.url, org.keys["sam"]) as client:
        session = wait_until(lambda: next(client.sessions(limit=1), None), what="its session is there")
        wait_until(lambda: sam.get(job["status_url"]).get("progress") is not None, what="it is under way")
        assert org.api.request("DELETE", job["status_url"]).status in (200, 202)
        assert sam.ended(job["status_url"])["status"] == "cancelled"
        wait_until(lambda: client.session(session.session_id).status == "cancelled", what="so is the session")


# ---- the README -------------------------------------------------------------------------------------------


def test_the_readmes_ten_lines_work_when_they_are_pasted(org, tmp_path):
    """Its lines are in a file of the platform's (conftest.py), its commands run here as they stand."""
    section = (BASE_DIR / "README.md").read_text().partition("## Turn a view into a job")[2].partition("\n## ")[0]
    (program,), (commands,) = re.findall(r"```python\n(.*?)```", section, re.S), re.findall(r"```sh\n(.*?)```", section, re.S)
    assert len([line for line in program.splitlines() if line.strip() and not line.startswith("#")]) <= 10
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env={**os.environ, "JOBPLATFORM_URL": org.stack.url, "ADMIN_KEY": org.keys["ann"]},
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    made, looked, *stream = run.stdout.strip().splitlines()
    assert json.loads(made)["status"] == "enqueued" and json.loads(looked)["success"] is True
    assert '"result":{"sum":42}' in "".join(stream) and json.loads(stream[-1]) == {"sum": 6}
