"""Plain functions that make what tests need: orgs, agents, keys, entries. Nothing is hidden, everything can be overridden."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime
from typing import Any

from apps.core import ids

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
"""A fixed instant for tests that give `now`."""

_count = itertools.count(1)


def make_org(org_id: str = "acme", **config: Any):
    """An org, with config parameters as keywords: `make_org("acme", max_attempts=2)`."""
    from apps.orgs.models import Org, OrgConfigParameter

    org, _ = Org.objects.get_or_create(org_id=org_id, defaults={"name": org_id.title(), "created_at": NOON})
    for key, value in config.items():
        OrgConfigParameter.objects.update_or_create(org=org, key=key, defaults={"value": value, "changed_at": NOON, "changed_by": "tests"})
    return org


def make_agent(
    org: Any = "acme",
    subject_id: str = "ada",
    *,
    role_id: str = "scouts",
    role_type: str = "SCOUTING",
    job_space_id: str = "",
    capabilities: tuple[str, ...] = (),
    subject_type: str = "agent",
    is_active: bool = True,
):
    """A subject in the candidate pool of its org (and of `job_space_id`)."""
    from apps.roles.models import Role, Subject, SubjectRole

    home = make_org(getattr(org, "org_id", org))
    role, _ = Role.objects.get_or_create(org=home, role_id=role_id, defaults={"role_type": role_type})
    subject, _ = Subject.objects.update_or_create(
        org=home,
        subject_id=subject_id,
        defaults={"subject_type": subject_type, "capabilities": list(capabilities), "is_active": is_active},
    )
    SubjectRole.objects.get_or_create(subject=subject, role=role, job_space_id=job_space_id)
    return subject


def make_key(org: Any = "acme", role: str = "submitter", subject_id: str = "", **fields: Any) -> str:
    """A fresh API key as it is printed; an agent's carries its NATS credentials. `fields`: name, expires_at."""
    from apps.orgs import keys

    fields = {"by": "tests", "now": NOON, **fields}
    return keys.create(org=make_org(getattr(org, "org_id", org)), role=role, subject_id=subject_id, **fields).printed


def bearer(key: str) -> dict[str, str]:
    """Headers for Django's test client: `client.get(path, headers=bearer(key))`."""
    return {"Authorization": f"Bearer {key}"}


def make_entry(**overrides: Any) -> dict[str, Any]:
    """A TaskEntry in wire names. `None` as a value keeps the null; use `drop` in a comprehension to leave a field out."""
    return {
        "task_id": f"t{next(_count)}",
        "task_goal": "count the words",
        "task_intent": "to know how long it is",
        "task_priority_value": 0,
        "submitter_subject_id": "acme:sam",
        "task_submission_ts": "2026-11-22T12:00:00Z",
        "task_execution_mode": "auto",
        **overrides,
    }


def task_row(task_id: str = "", *, org_id: str = "acme", status: str = "queued", **fields: Any):
    """A Task that is not stored yet."""
    from apps.core import clock
    from apps.tasks.models import Task

    task_id = task_id or f"t{next(_count)}"
    entry = make_entry(task_id=task_id, submitter_subject_id=f"{org_id}:sam")
    values = {
        "goal": entry["task_goal"],
        "intent": entry["task_intent"],
        "submitter_subject_id": entry["submitter_subject_id"],
        "entry": entry,
        "body_hash": hashlib.sha256(repr(entry).encode()).hexdigest(),
        "sequence": clock.sequence(),
        "created_at": NOON,
        "updated_at": NOON,
        **fields,
    }
    return Task(key=ids.task_key(org_id, task_id), org_id=org_id, task_id=task_id, status=status, **values)


def make_task(task_id: str = "", *, now: datetime = NOON, **fields: Any):
    """A Task as the store bears it (in a status a task may be born in)."""
    from apps.tasks.store import Birth, TaskStore

    task = task_row(task_id, **fields)
    assert TaskStore().insert_many([Birth(task=task, reason="made for a test", actor="tests")], now=now)
    return task
