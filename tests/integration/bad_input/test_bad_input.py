"""Every class of bad input meets every endpoint: a 4xx that says what is wrong, nothing stored, nothing of the inside shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.core.http import LIMITS, Limits
from apps.dsl.models import PolicyRun
from apps.jobs.models import Job
from apps.orgs.models import OrgConfigParameter
from apps.roles.models import Role, SubjectRole
from apps.tasks.models import BulkAction, DeadLetter, Schedule, Task, Transition
from apps.webhooks.models import Endpoint as Webhook
from apps.workflows.api.reading import DOCUMENT
from apps.workflows.models import Session
from apps.workflows.models_context import ContextDocument
from jobplatform.env import BASE_DIR
from tests.factories import NOON, bearer, make_entry, make_key, make_task
from tests.integration.bad_input.corpus import BAD_IDS, bodies, entry_changes

KINDS = {"bytes": {400}, "media": {413, 415}, "size": {413}, "limits": {422}, "shape": {422}}
"""What a kind of bad body is answered with."""
FILTER_KINDS = {**KINDS, "limits": {400}, "shape": {400}}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    path: str
    valid: Callable[[], dict[str, Any]]
    carry: Callable[[Any], dict[str, Any]]
    """A body that holds a free value somewhere."""
    role: str = "submitter"
    kinds: dict[str, set[int]] = field(default_factory=lambda: KINDS)
    optional: bool = False
    """No body at all is fine."""
    limits: Limits = LIMITS


def submission(**fields: Any) -> dict[str, Any]:
    return {"type": "task", "data": make_entry(task_id="t1", **fields)}


def sub_task(**fields: Any) -> dict[str, Any]:
    return {
        "sub_task_id": "s1", "task_id": "held", "sub_task_goal": "g", "sub_task_intent": "i", "sub_task_priority_value": 0,
        "parent_subject_ids": ["ada"], **fields,
    }  # fmt: skip


def session(**fields: Any) -> dict[str, Any]:
    return {"session_id": "new", "tasks": [{"key": "only", "message_template": "Do it"}], **fields}


ENDPOINTS = {
    endpoint.path: endpoint
    for endpoint in (
        Endpoint(
            path="/internal/process-task?wait=0",
            valid=submission,
            carry=lambda value: submission(task_job_submission_data={"free": value}),
        ),
        Endpoint(
            path="/api/v1/tasks",
            valid=lambda: make_entry(task_id="t1"),
            carry=lambda value: make_entry(task_id="t1", task_contracts_map={"free": value}),
        ),
        Endpoint(
            path="/api/v1/tasks/simulate",
            valid=submission,
            carry=lambda value: submission(task_contracts_map={"free": value}),
            role="operator",
        ),
        Endpoint(path="/api/v1/tasks/held/cancel", valid=lambda: {"reason": "x"}, carry=lambda value: {"reason": value}, optional=True),
        Endpoint(
            path="/api/v1/tasks/held/priority",
            valid=lambda: {"priority": 3, "reason": "x"},
            carry=lambda value: {"priority": 3, "reason": value},
            role="operator",
        ),
        Endpoint(
            path="/api/v1/queue/pause",
            valid=lambda: {"reason": "x"},
            carry=lambda value: {"reason": value},
            role="operator",
            optional=True,
        ),
        Endpoint(
            path="/api/v1/queue/resume",
            valid=lambda: {"reason": "x"},
            carry=lambda value: {"reason": value},
            role="operator",
            optional=True,
        ),
        Endpoint(
            path="/api/v1/tasks/actions",
            valid=lambda: {"action": "cancel", "filter": {}, "dry_run": True},
            carry=lambda value: {"action": "cancel", "filter": {"q": value}, "dry_run": True},
            role="operator",
        ),
        Endpoint(
            path="/api/v1/dead-letters/held/requeue",
            valid=lambda: {"reason": "x"},
            carry=lambda value: {"patch": {"task_contracts_map": {"free": value}}},
            role="operator",
        ),
        Endpoint(
            path="/api/v1/schedules",
            valid=lambda: {
                "name": "s", "cron": "0 0 * * *", "entry": {"goal": "g", "intent": "i", "priority": 0},
                "starts_at": "2030-01-01T00:00:00Z", "ends_at": "2031-01-01T00:00:00Z",
            },
            carry=lambda value: {
                "name": "s",
                "cron": "0 0 * * *",
                "entry": {"goal": "g", "intent": "i", "priority": 0, "task_contracts_map": {"f": value}},
            },
            role="operator",
        ),
        Endpoint(
            path="/api/v1/policies",
            valid=lambda: {"script_id": "approval/x", "hook": "approval", "source": "def approve(task): return {}"},
            carry=lambda value: {"script_id": value, "hook": "approval", "source": "def approve(task): return {}"},
            role="org_admin",
        ),
        Endpoint(
            path="/api/v1/policies/approval/x/activate",
            valid=lambda: {"version": 1},
            carry=lambda value: {"version": value},
            role="org_admin",
        ),
        Endpoint(
            path="/api/v1/policies/approval/x/run-tests",
            valid=lambda: {"version": 1},
            carry=lambda value: {"tests": value, "version": value},
            role="operator",
        ),
        Endpoint(
            path="/api/v1/policies/approval/x/backtest",
            valid=lambda: {"limit": 10},
            carry=lambda value: {"limit": 10, "task_ids": [value], "version": value},
            role="operator",
        ),
        Endpoint(
            path="/api/v1/agents/ada/pause",
            valid=lambda: {"reason": "x"},
            carry=lambda value: {"reason": value},
            role="operator",
            optional=True,
        ),
        Endpoint(
            path="/api/v1/enrolments",
            valid=lambda: {"subject_id": "new"},
            carry=lambda value: {"subject_id": "new", "name": value},
            role="operator",
        ),
        Endpoint(
            path="/api/v1/webhooks",
            valid=lambda: {"url": "https://hooks.example.com/", "description": "x"},
            carry=lambda value: {"url": "https://hooks.example.com/", "description": value},
            role="org_admin",
        ),
        Endpoint(
            path="/api/v1/webhooks/wh_held/rotate-secret",
            valid=lambda: {"overlap_s": 60},
            carry=lambda value: {"overlap_s": value},
            role="org_admin",
            optional=True,
        ),
        Endpoint(
            path="/api/v1/webhooks/wh_held/replay",
            valid=lambda: {"since": "2026-11-22T12:00:00Z"},
            carry=lambda value: {"since": "2026-11-22T12:00:00Z", "missed": value},
            role="operator",
        ),
        Endpoint(
            path="/internal/process-task?wait=0#sub_task",
            valid=lambda: {"type": "sub_task", "data": sub_task()},
            carry=lambda value: {"type": "sub_task", "data": sub_task(sub_task_contracts_map={"free": value})},
        ),
        *(
            Endpoint(
                path=f"/api/v1/tasks/held/{verb}",
                valid=lambda body=body: {**body, "reason": "x"},
                carry=lambda value, body=body: {**body, "reason": value},
                optional=verb in ("approve", "reject", "assign"),
                role="operator",
            )
            for verb, body in (
                ("approve", {}),
                ("reject", {}),
                ("assign", {"subject_id": "ada"}),
                ("verify", {"verdict": "accept"}),
            )
        ),
        Endpoint(
            path="/api/v1/sessions",
            valid=session,
            carry=lambda value: session(context={"free": value}),
            limits=DOCUMENT,
        ),
        *(
            Endpoint(
                path=f"/api/v1/sessions/held/{verb}",
                valid=lambda: {"reason": "x"},
                carry=lambda value: {"reason": value},
                optional=True,
                role="submitter" if verb == "cancel" else "operator",
            )
            for verb in ("cancel", "retry")
        ),
        Endpoint(
            path="/api/v1/sessions/held/rerun",
            valid=lambda: {"step": "main.only"},
            carry=lambda value: {"step": value},
            role="operator",
        ),
        Endpoint(path="/api/v1/jobs/job_held/cancel", valid=lambda: {"reason": "x"}, carry=lambda value: {"reason": value}, optional=True),
        Endpoint(path="/org-config/acme/max_attempts", valid=lambda: {"value": 3}, carry=lambda value: {"value": value}, role="org_admin"),
        Endpoint(
            path="/api/v1/context/notes",
            valid=lambda: {"documents": [{"key": "n1", "value": {}, "text": "x"}]},
            carry=lambda value: {"documents": [{"key": "n1", "value": {"free": value}}]},
            role="operator",
        ),
        Endpoint(
            path="/api/v1/context/notes/query",
            valid=lambda: {"filter": {"value.team": "blue"}},
            carry=lambda value: {"filter": {"value.team": {"$in": [value]}}},
        ),
        Endpoint(
            path="/api/v1/context/notes/search",
            valid=lambda: {"text": "boiler"},
            carry=lambda value: {"text": "boiler", "vector": value},
        ),
        Endpoint(
            path="/role-group",
            valid=lambda: {"role_type": "SCOUTING"},
            carry=lambda value: {"role_type": {"$in": [value]}},
            kinds=FILTER_KINDS,
        ),
        Endpoint(
            path="/subject-roles",
            valid=lambda: {"job_space_id": "s"},
            carry=lambda value: {"role_ids": {"$in": [value]}},
            kinds=FILTER_KINDS,
        ),
    )
}
INSIDE = ("Traceback", str(BASE_DIR), "site-packages", "orjson", "sqlite", "pymongo")
PATHS = [*ENDPOINTS, "/api/v1/tasks/bulk"]


class Door:
    """Posts as one role and collects what was not refused as it should be, so that one run tells all of it."""

    def __init__(self, client: Any, role: str) -> None:
        self.client, self.headers, self.wrong = client, bearer(make_key("acme", role)), {}
        make_task("held")
        DeadLetter.objects.create(key="acme/held", org_id="acme", task_id="held", kind="expired", sequence=1, at=NOON)
        Webhook.objects.create(endpoint_id="wh_held", org_id="acme", url="https://hooks.example.com/", events=["*"], secret_salt="x")
        # No worker has it, and it has ended: whatever is asked of it changes nothing.
        Job.objects.create(
            id="job_held", org_id="acme", target="x:y", queue="default", backend="memory", sequence=1, created_at=NOON, status="finished",
            owner=f"key:{self.headers['Authorization'].split('_')[1]}",
        )  # fmt: skip
        self._stored = self._rows()

    def post(self, path: str, body: Any, content_type: str = "application/json", **headers: str) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.generic("POST", path, raw, content_type, headers={**self.headers, **headers})

    def expect(self, name: str, response: Any, statuses: set[int]) -> dict[str, Any]:
        """The body of a refusal."""
        try:
            assert response.status_code in statuses
            body = json.loads(response.content)
            assert body.get("error") or body.get("detail")
            assert body["request_id"] == response.headers["X-Request-Id"]
            shown = response.content.decode()
            assert not [secret for secret in INSIDE if secret in shown]
            assert self._rows() == self._stored
        except (AssertionError, KeyError, ValueError) as error:
            self.wrong[name] = (response.status_code, response.content[:200], str(error).partition("\n")[0])
            return {}
        return body

    def _rows(self) -> list[Any]:
        kept = (
            Task,
            Transition,
            PolicyRun,
            OrgConfigParameter,
            Role,
            SubjectRole,
            Webhook,
            Schedule,
            BulkAction,
            ContextDocument,
            Session,
            Job,
        )
        counts = [model.objects.count() for model in kept]
        return [*counts, *Task.objects.values_list("status", "reason")]


@pytest.fixture
def door(client, db, redis) -> Callable[[str], Door]:
    return lambda role: Door(client, role)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_bad_body_is_refused(door, path, kind):
    endpoint = ENDPOINTS[path]
    at = door(endpoint.role)
    for bad in bodies(endpoint.valid(), endpoint.carry, endpoint.limits):
        if bad.kind == kind and (bad.body or not endpoint.optional):
            at.expect(bad.name, at.post(path, bad.body, bad.content_type, **bad.headers), endpoint.kinds[kind])
    assert at.wrong == {}


def test_a_bad_entry_is_refused_and_the_field_is_named(door):
    at = door("submitter")
    for name, change, leave_out in entry_changes():
        entry = {field: value for field, value in make_entry(**change).items() if field not in leave_out}
        submitter = entry.get("submitter_subject_id")
        foreign = isinstance(submitter, str) and submitter and not submitter.startswith("acme:")
        body = at.expect(name, at.post("/internal/process-task?wait=0", {"type": "task", "data": entry}), {404} if foreign else {422})
        (wanted, *_) = change or leave_out
        if not foreign and not any(problem["field"].startswith(f"data.{wanted}") for problem in body.get("errors", ())):
            at.wrong.setdefault(name, body)
    assert at.wrong == {}


def test_every_problem_of_an_entry_is_named_at_once(door):
    at = door("submitter")
    entry = {**make_entry(task_priority_value="high", task_execution_mode=7, status="completed"), "task_id": ""}
    del entry["task_goal"]
    body = at.expect("all", at.post("/internal/process-task", {"type": "task", "data": entry}), {422})
    named = {problem["field"] for problem in body["errors"]}
    assert named == {"data.task_priority_value", "data.task_execution_mode", "data.status", "data.task_id", "data.task_goal"}


def test_a_bad_envelope_is_refused(door):
    at = door("submitter")
    for body in (
        {}, {"type": "task"}, {"data": {}}, {"type": "sub_task", "data": {}}, {"type": "job", "data": {}}, {"type": None, "data": {}},
        {"type": ["task"], "data": {}}, {"type": "task", "data": None}, {"type": "task", "data": []}, {**submission(), "status": "queued"},
    ):  # fmt: skip
        at.expect(repr(body)[:60], at.post("/internal/process-task", body), {422})
    assert at.wrong == {}


def test_a_bad_wait_is_refused(door):
    at = door("submitter")
    for wait in ("-1", "31", "1e9", "nan", "inf", "x", "", "1,5", "0x1", "9" * 400):
        at.expect(wait, at.post(f"/internal/process-task?wait={wait}", submission()), {400})
    assert at.wrong == {}


def test_an_id_that_cannot_be_is_as_missing_as_one_that_is_not(door):
    at = door("submitter")
    for task_id in BAD_IDS:
        # The empty id names the list; a dot or two, as every client reads them, another path.
        for verb in () if task_id in {"", ".", ".."} else ("", "/events", "/auctions", "/stream"):
            path = f"/api/v1/tasks/{quote(task_id, safe='')}{verb}"
            at.expect(ascii(task_id) + verb, at.client.get(path, headers=at.headers), {404})
        if task_id:
            at.expect(ascii(task_id) + " cancel", at.post(f"/api/v1/tasks/{quote(task_id, safe='')}/cancel", {}), {404})
    assert at.wrong == {}


def test_a_bad_filter_is_refused(door):
    at = door("submitter")
    for query in (
        "status=ended", "status=", "limit=0", "limit=-1", "limit=x", "limit=100000", "cursor=x", "cursor=%00", "order=secret",
        "org_id=other", "created_after=yesterday", "status__in=queued", "entry__contains=x", "select=*", "$where=1",
    ):  # fmt: skip
        at.expect(query, at.client.get(f"/api/v1/tasks?{query}", headers=at.headers), {400, 422})
    assert at.wrong == {}


def test_bad_lines_of_a_bulk_get_their_verdict_and_stop_nobody(door):
    at = door("submitter")
    good = [make_entry(task_id=f"good{n}") for n in range(3)]
    bad = [
        b"", b"not json", b"[]", b"null", b'{"task_id": "x"}', b'{"a": 1, "a": 2}', b"\xff\xfe", b'{"task_id": NaN}',
        json.dumps(make_entry(task_id="no/slash")).encode(), json.dumps(make_entry(task_id="big", task_goal="x" * 2**21)).encode(),
    ]  # fmt: skip
    lines = [json.dumps(good[0]).encode(), *bad[:5], json.dumps(good[1]).encode(), *bad[5:], json.dumps(good[2]).encode()]
    response = at.post("/api/v1/tasks/bulk", b"\n".join(lines), "application/x-ndjson")
    assert response.status_code == 200
    *verdicts, last = [json.loads(line) for line in response.getvalue().splitlines()]
    assert [verdict["line"] for verdict in verdicts] == [number for number, line in enumerate(lines, 1) if line]
    assert [verdict["task_id"] for verdict in verdicts if verdict["status"] != "invalid"] == ["good0", "good1", "good2"]
    assert last["summary"] | {"statuses": None} == {
        "lines": 12, "accepted": 3, "invalid": 9, "rejected": 0, "repeated": 0, "statuses": None,
    }  # fmt: skip
    assert set(Task.objects.values_list("task_id", flat=True)) == {"held", "good0", "good1", "good2"}


# At the door


@pytest.mark.parametrize("path", PATHS)
def test_nobody_without_a_key_gets_in(client, door, path):
    at = door("org_admin")
    for authorization in (
        "", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "Bearer jp_", "Bearer jp_abc_def", "Bearer jp_abcdefabcdef_%00",
        f"Bearer jp_{'a' * 12}_{'b' * 43}", "Bearer " + "x" * 9000, at.headers["Authorization"][:-1], at.headers["Authorization"].lower(),
    ):  # fmt: skip
        response = client.post(path, submission(), "application/json", headers={"Authorization": authorization} if authorization else {})
        at.expect(authorization[:30], response, {401})
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    in_the_address = f"{path}{'&' if '?' in path else '?'}api_key={at.headers['Authorization'][7:]}"
    at.expect("a key in the address", client.post(in_the_address, submission(), "application/json"), {401})
    assert at.wrong == {}


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_method_or_path_is_refused(client, door, path):
    at = door("org_admin")
    for method in ("PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"):
        at.expect(method, client.generic(method, path, b"{}", "application/json", headers=at.headers), {405})
    at.expect("override", at.post(path, b"not json", **{"X-HTTP-Method-Override": "DELETE"}), {400, 415})
    bare = path.partition("?")[0]
    for wrong in (bare + "/", bare.upper(), "/" + bare, bare.replace("/", "//", 2)):
        at.expect(wrong, at.post(wrong, submission()), {404, 405})
    assert at.wrong == {}


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12)


@pytest.mark.filterwarnings("ignore:Do not use the .random. module")
@pytest.mark.parametrize("path", ENDPOINTS)
def test_whatever_comes_is_answered_and_never_with_a_fault_of_ours(door, path):
    endpoint = ENDPOINTS[path]
    at = door(endpoint.role)
    names = st.sampled_from(sorted({*endpoint.valid(), *make_entry(), "type", "data", "value", "version"})) | st.text(max_size=8)

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(names, values | st.just(make_entry()), max_size=5) | values)
    def answered(body):
        response = at.post(path, body)
        assert response.status_code < 500, (response.status_code, response.content, body)

    answered()
