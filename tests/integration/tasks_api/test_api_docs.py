"""The OpenAPI document is valid and complete, and the page that shows it needs nothing from elsewhere."""

from __future__ import annotations

import json
import re
from io import StringIO

from django.core.management import call_command
from django.urls import get_resolver

from apps.tasks import urls


def schema() -> dict:
    out = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json", stdout=out)
    return json.loads(out.getvalue())


def test_every_path_of_the_tasks_api_is_documented():
    documented = schema()["paths"]
    for pattern in urls.urlpatterns:
        path = "/" + re.sub(r"<str:(\w+)>", r"{\1}", str(pattern.pattern))
        assert path in documented, path
        for operation in documented[path].values():
            assert operation["summary"]
            assert operation["security"] == [{"ApiKey": []}]


def test_what_to_send_is_shown_by_example():
    body = schema()["paths"]["/internal/process-task"]["post"]["requestBody"]["content"]["application/json"]
    assert body["examples"]["ATask"]["value"]["data"]["task_id"]
    task, sub_task = body["schema"]["properties"]["data"]["oneOf"]
    assert {"sub_task_id", "task_id", "parent_subject_ids"} <= set(sub_task["required"])
    assert set(task["required"]) >= {"task_id", "task_goal", "task_intent", "task_priority_value"}


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/api/docs")
    assert page.status_code == 200
    assert b"https://" not in page.content
    assert get_resolver().resolve("/api/schema").url_name == "schema"
