"""Whatever is sent: an answer below 500 in our shape, and nothing stored that was refused."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.tasks.models import Task
from apps.tasks.parser import FIELDS
from tests.factories import make_entry

# The wire, which is looking for its server meanwhile, takes its pauses from `random`.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

NAMES = [name for field in FIELDS for name in (field.wire, *field.aliases)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12) | st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)
ENTRIES = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6).map(lambda wild: {**make_entry(), **wild})


def dump(value) -> bytes:
    return json.dumps(value).encode()


BODIES = st.binary(max_size=200) | JSON.map(dump) | ENTRIES.map(dump)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def checked(response) -> None:
    assert response.status_code < 500, response.content
    if response.status_code >= 400:
        body = orjson.loads(response.content)
        assert body["code"]
        assert body["request_id"]


@MANY
@given(raw=BODIES | ENTRIES.map(lambda data: dump({"type": "task", "data": data})))
def test_process_task(submitter, raw):
    before = Task.objects.count()
    response = submitter.post("/internal/process-task?wait=0", raw)
    checked(response)
    if response.status_code in (400, 404, 413) or (response.status_code == 422 and response.json()["code"] != "refused"):
        assert Task.objects.count() == before


@MANY
@given(raw=BODIES)
def test_submit(submitter, raw):
    checked(submitter.post("/api/v1/tasks", raw))


@MANY
@given(lines=st.lists(BODIES, max_size=5))
def test_bulk(submitter, lines):
    raw = b"\n".join(lines)
    response = submitter.post("/api/v1/tasks/bulk", raw, content_type="application/x-ndjson")
    if response.status_code != 200:
        assert (response.status_code, raw) == (400, b"")
        return
    *verdicts, last = [orjson.loads(line) for line in b"".join(response.streaming_content).splitlines()]
    assert last["summary"]["lines"] == len(verdicts) == sum(bool(line.strip()) for line in raw.split(b"\n"))


@MANY
@given(
    path=st.text(max_size=40),
    query=st.dictionaries(st.sampled_from(["status", "cursor", "limit", "q", "created_from", "x"]), st.text(max_size=20)),
)
def test_look(submitter, path, query):
    checked(submitter.client.get(f"/api/v1/tasks/{path}", query, headers={"Authorization": f"Bearer {submitter.key}"}))
    checked(submitter.client.get("/api/v1/tasks", query, headers={"Authorization": f"Bearer {submitter.key}"}))


@pytest.mark.parametrize("verb", ["cancel", "approve", "reject"])
def test_steer(operator, verb):
    @MANY
    @given(raw=BODIES)
    def fuzz(raw):
        checked(operator.post(f"/api/v1/tasks/nothing/{verb}", raw))

    fuzz()
