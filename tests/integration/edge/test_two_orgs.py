"""What belongs to another org answers exactly as what does not exist: every path with an id, every method, found by walking the table."""

from __future__ import annotations

import json
import re

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver
from redis.connection import Connection

from apps.dsl.models import Backtest
from apps.jobs.calls import Owner
from apps.orgs.models import Change
from apps.tasks.models import Task
from apps.tasks.states import TaskStatus
from apps.tasks.store import Move, TaskStore
from tests.factories import NOON, bearer, make_agent, make_key, make_org, make_task
from tests.integration.edge.test_every_route import routes
from tests.integration.jobs_surface.kit import submit

pytestmark = pytest.mark.django_db

KEY = "max_attempts"
"""Of a parameter of the configuration, and of a document: the same in every org, as such keys are."""
METHODS = ("get", "post", "put", "patch", "delete")
WITH_ID = sorted(
    {route for route in routes(get_resolver()) if re.search(r"<(?!str:key>)", route) and route.startswith(("api/v1/", "org-config/"))}
)


def made(client, path: str, body: dict) -> dict:
    answer = client.post(path, body, "application/json", headers=bearer(make_key("acme", "org_admin", subject_id="root")))
    assert answer.status_code in (200, 201, 202), answer.text
    return answer.json()


@pytest.fixture
def theirs(client, redis, settings) -> dict[str, str]:
    """Something of each kind, of org acme: name in the path → its id."""
    settings.OUTBOUND_ALLOW = ["hooks.corp"]
    make_org("acme", outbound_allow=["hooks.corp"])
    make_agent("acme", "ada")
    task = make_task("t1", org_id="acme")
    failed = make_task("t2", org_id="acme")
    assert TaskStore().move_many([Move(task=failed, end=TaskStatus.FAILED, reason="broken", actor="tests")], now=NOON)
    source = "def approve(task):\n  return {'accepted': True}\n"
    made(client, "/api/v1/policies", {"script_id": "mine", "hook": "approval", "source": source})
    entry = {"task_goal": "g", "task_intent": "i", "task_priority_value": 0, "submitter_subject_id": "acme:sam"}
    made(client, "/api/v1/schedules", {"name": "nightly", "cron": "0 3 * * *", "entry": entry})
    endpoint = made(client, "/api/v1/webhooks", {"url": "http://hooks.corp/in"})["endpoint_id"]
    delivery = made(client, f"/api/v1/webhooks/{endpoint}/ping", {})["delivery_id"]
    enrolment = made(client, "/api/v1/enrolments", {"subject_id": "bo", "role_ids": ["scouts"]})["enrolment_id"]
    backtest = Backtest.objects.create(
        id="b" * 32, org_id="acme", script_id="mine", script_pk="acme/mine@1", version=1, hook="approval", window={}, created_at=NOON,
        created_by="tests", touched_at=NOON,
    )  # fmt: skip
    wanted = {"action": "cancel", "filter": {"task_ids": ["nobody"]}, "expected_count": 0, "reason": "x"}
    action = made(client, "/api/v1/tasks/actions", wanted)["id"]
    fan = {"key": "fan", "agent_class": "Echo", "expansion_config": {"type": "array", "array_mapping": {"n": "numbers"}}}
    session = {"session_id": "session-1", "name": "Fan", "context": {"numbers": [1, 2]}, "tasks": [fan]}
    made(client, "/api/v1/sessions", session)
    made(client, "/api/v1/context/notes", {"documents": [{"key": KEY, "value": {}}]})
    return {
        "session_id": "session-1", "path": "main.fan", "index": "1", "collection": "notes", "key": KEY,
        "task_id": task.task_id, "subject_id": "ada", "role_id": "scouts", "script_id": "mine", "name": "nightly", "endpoint_id": endpoint,
        "delivery_id": delivery, "enrolment_id": enrolment, "backtest_id": backtest.pk, "action_id": action, "org_id": "acme",
        "job_id": submit(Owner(key="key:root", org_id="acme")).pk,
    }  # fmt: skip


def at(route: str, ids: dict[str, str]) -> str:
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: ids.get(found[1], "x"), route)


def said(answer, ids: dict[str, str]) -> tuple[int, str, str]:
    """Status, media type and body, without the ids and the request's own."""
    text = answer.content.decode()
    for value in sorted(ids.values(), key=len, reverse=True):
        text = re.sub(rf"\b{re.escape(value)}\b", "ID", text)
    return answer.status_code, answer["Content-Type"], re.sub(r'"request_id":"[^"]*"', "", text)


class Asked:
    """What a request asked of the databases and of Redis, without values: whoever can tell two of them apart by their time must find a
    difference here."""

    def __init__(self) -> None:
        self._captured = [CaptureQueriesContext(connections[alias]) for alias in connections]
        self._patch = pytest.MonkeyPatch()
        self.redis: list[str] = []

    def __enter__(self) -> Asked:
        for captured in self._captured:
            captured.__enter__()
        send = Connection.send_packed_command

        def sent(connection: Connection, command: object, **how: object) -> object:
            self.redis += re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)", b"".join(command) if isinstance(command, list) else command)
            return send(connection, command, **how)

        self._patch.setattr(Connection, "send_packed_command", sent)
        return self

    def __exit__(self, *_error: object) -> None:
        self._patch.undo()
        for captured in self._captured:
            captured.__exit__(None, None, None)

    @property
    def shape(self) -> list[object]:
        """Statements in order, their values taken out."""
        statements = [query["sql"] for captured in self._captured for query in captured.captured_queries]
        values = r"""'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b|(?<=SAVEPOINT )\S+"""
        return [*(re.sub(values, "?", statement) for statement in statements), *self.redis]


def test_what_is_anothers_answers_as_what_is_not_there(client, theirs):
    """One test, because making the things costs more than all the asking."""
    same = {"key", "path", "index"}  # names that are the same in every org
    missing = {name: value if name in same else value[:-1] + ("0" if value[-1] != "0" else "1") for name, value in theirs.items()}
    key = bearer(make_key("bolt", "org_admin", subject_id="eve"))
    own = bearer(make_key("acme", "org_admin", subject_id="root"))
    before = (Change.objects.filter(org_id="acme").count(), list(Task.objects.order_by("pk").values_list("pk", "status", "priority")))
    there, differing, slower = 0, [], []
    for route in WITH_ID:
        # The thing is really there: its owner is answered otherwise.
        there += not route.endswith("/stream") and client.get(at(route, theirs), headers=own).status_code == 200
        for method in METHODS:
            how = {} if method == "get" else {"data": json.dumps({}), "content_type": "application/json"}
            for _again in range(3):  # what a process remembers for seconds may lapse between two requests, but not each time
                answers, shapes = [], []
                for ids in (theirs, missing):
                    with Asked() as asked:
                        answer = getattr(client, method)(at(route, ids), headers=key, **how)
                    answers.append(said(answer, ids))
                    shapes.append(asked.shape)
                if answers[0] != answers[1]:
                    differing.append((method, route, answers))
                if shapes[0] == shapes[1]:
                    break
            else:
                slower.append((method, route, shapes))
    assert differing == []
    assert slower == []
    assert there >= 20
    after = (Change.objects.filter(org_id="acme").count(), list(Task.objects.order_by("pk").values_list("pk", "status", "priority")))
    assert after == before and not Change.objects.filter(org_id="acme", by__contains="eve").exists()


def test_lists_and_counts_of_one_org_hold_nothing_of_another(client, theirs):
    key = bearer(make_key("bolt", "org_admin", subject_id="eve"))
    lists = sorted({route for route in routes(get_resolver()) if route.startswith("api/v1/") and "<" not in route})
    leaking = []
    for route in lists:
        if "stream" in route:
            continue
        answer = client.get(f"/{route}", headers=key)
        told = (answer.getvalue() if answer.status_code == 200 else b"").decode()
        leaking += [(route, name) for name, value in theirs.items() if value != KEY and f'"{value}"' in told]
    assert len(lists) > 10 and leaking == []
