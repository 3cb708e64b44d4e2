"""Which rows are an org's: found in the models themselves, so that a new table is purged without being named anywhere.

A row is an org's when it says so (`org_id`), when what it belongs to is (a foreign key to such a row), or when its session is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.apps import apps
from django.db import models
from django.db.models import Q

from apps.agents.models import Enrolment, EvidenceMark
from apps.jobs.models import Job, JobDependency
from apps.orgs.models import ApiKey, Change, Org, Purge, ShutKey
from apps.people.models import Login
from apps.tasks.models import Schedule, Task
from apps.webhooks.models import Cursor, Endpoint
from apps.workflows.models import Session

FIRST: tuple[type[models.Model], ...] = (Login, Schedule, Endpoint, Enrolment, ApiKey, Session, Task, Job)
"""What acts: when it is gone nothing new comes of it."""
NOBODYS = {
    Org: "goes last",
    Purge: "goes with the org: while it is there the purge is not over",
    ShutKey: "keys of purged orgs that NATS must go on refusing; names no org",
    JobDependency: "goes with its job",
    EvidenceMark: "how far the platform has read",
    Cursor: "how far the platform has read",
}
"""Tables of which no row is an org's, and why."""


@lru_cache(maxsize=1)
def tables() -> tuple[type[models.Model], ...]:
    """In the order in which they are emptied; the audit trail last."""
    ours = [model for model in apps.get_models() if model.__module__.startswith("apps.") and not model._meta.proxy]
    owned = [model for model in ours if path_to_org(model)]
    return (*FIRST, *(model for model in owned if model not in {*FIRST, Change}), Change)


def of_org(model: type[models.Model], org_id: str) -> Q:
    path = path_to_org(model)
    return Q(**{path: f"{org_id}/" if path.endswith("__startswith") else org_id})


@lru_cache(maxsize=256)
def path_to_org(model: type[models.Model]) -> str:
    """The lookup that names the org of a row; "" when it has none."""
    if model in NOBODYS:
        return ""
    fields: dict[str, Any] = {field.attname: field for field in model._meta.concrete_fields}
    if "org_id" in fields:
        return "org_id"
    for field in fields.values():
        if field.is_relation and (path := path_to_org(field.related_model)):
            return f"{field.name}__{path}"
    return "session_key__startswith" if "session_key" in fields else ""
