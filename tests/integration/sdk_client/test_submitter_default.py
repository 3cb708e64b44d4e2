"""On the platform's own paths whoever holds the key is the submitter, unless the entry names one."""

from __future__ import annotations

import orjson
import pytest
from django.test import Client

from apps.tasks.models import Task
from tests.factories import bearer, make_key, make_org

pytestmark = pytest.mark.django_db
ENTRY = {"task_id": "t1", "goal": "g", "intent": "i", "priority": 0}


@pytest.fixture
def key(redis) -> str:
    make_org("acme")
    return make_key("acme", "submitter", "sue")


def post(path, key, body, content_type="application/json"):
    return Client().post(path, orjson.dumps(body), content_type=content_type, headers=bearer(key))


def test_one_task(key):
    assert post("/api/v1/tasks", key, ENTRY).json()["submitter_subject_id"] == "acme:sue"
    assert post("/api/v1/tasks", key, ENTRY).status_code == 200  # a repeat


def test_a_line_of_many(key):
    answer = post("/api/v1/tasks/bulk", key, ENTRY, "application/x-ndjson")
    assert b'"invalid":0' in b"".join(answer.streaming_content)
    assert Task.objects.get().submitter_subject_id == "acme:sue"


def test_a_key_without_a_subject_speaks_for_its_org(redis):
    make_org("acme")
    assert post("/api/v1/tasks", make_key("acme", "submitter"), ENTRY).json()["submitter_subject_id"] == "acme:acme"


def test_the_specs_path_wants_it_said(key):
    answer = post("/internal/process-task", key, {"type": "task", "data": ENTRY})
    assert answer.status_code == 422
    assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [("data.submitter_subject_id", "missing")]
