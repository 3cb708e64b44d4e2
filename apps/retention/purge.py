"""An organization, removed with everything of it: rows, keys in Redis, messages and consumers in JetStream, files, credentials.

The intent is a row (`Purge`), written first and deleted last, together with the org itself. Whoever dies in between is followed by
the next, who goes on at the table where it was left; whatever is done again changes nothing. Other processes may still be writing
what they had begun: tables are gone through until a whole round finds nothing.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db import models, router, transaction

from apps.core import bulk, clock, observe
from apps.core.errors import Conflict, Missing
from apps.core.failpoint import failpoint
from apps.jobs.backends import celery_results
from apps.jobs.backends import of as backend_of
from apps.jobs.models import Job, JobDependency
from apps.jobs.snapshot import erase
from apps.jobs.states import JobStatus
from apps.messaging.connection import wire
from apps.orgs import keys
from apps.orgs.audit import record
from apps.orgs.models import ApiKey, Change, Org, Purge, ShutKey
from apps.people.models import Login
from apps.retention import redis_keys
from apps.retention.kinds import TASK_PARTS
from apps.retention.owned import of_org, tables
from apps.tasks.models import Schedule, Task
from apps.tasks.operating import beat_rows
from apps.webhooks.models import Endpoint
from apps.workflows.context import vectors
from apps.workflows.engine import endings
from apps.workflows.models import ContextDocument, Session

log = logging.getLogger(__name__)

PAGE = 200
SILENT = timedelta(seconds=30)
PLATFORM = ""
"""The org of the platform's own lines in the audit trail."""


class NoSuchOrg(Missing):
    sentence = "There is no such organization."


class StillActive(Conflict):
    code, sentence = "still_active", "The organization is active: make it inactive first, and nothing of it acts any more."


def begin(org_id: str, *, by: str, now: datetime) -> Purge:
    """From here on there is no way back. Again is fine: who asked first stands. Raises NoSuchOrg, StillActive."""
    with transaction.atomic(using=router.db_for_write(Org)):
        org = Org.objects.select_for_update().filter(pk=org_id).first()
        if org is None:
            raise NoSuchOrg(org_id=org_id)
        if org.is_active:
            raise StillActive(org_id=org_id)
        return Purge.objects.get_or_create(org_id=org_id, defaults={"by": by, "at": now, "touched_at": now})[0]


def waiting(*, now: datetime) -> list[str]:
    """Orgs whose purge nobody is at."""
    return list(Purge.objects.filter(touched_at__lt=now - SILENT).order_by("at").values_list("pk", flat=True))


def count(org_id: str) -> Counter[str]:
    """Rows that a purge would remove, by table."""
    return Counter({model._meta.label: model._base_manager.filter(of_org(model, org_id)).count() for model in tables()})


class Purger:
    def __init__(self, org_id: str) -> None:
        self.org_id = org_id

    def run(self, *, now: datetime, seconds: float | None = None) -> bool:
        """Go on with it, for so many seconds (None: to the end); whether it is done. Raises RedisDown, WireDown: what cannot be
        reached now is left for the next time, and so is the end."""
        until = None if seconds is None else time.monotonic() + seconds
        while (purge := Purge.objects.filter(pk=self.org_id).first()) is not None:
            if not self._round(purge, until):
                return False
            redis_keys.forget(self.org_id)
            wire().forget_org(self.org_id)
            failpoint("purge.round")
            if Purge.objects.filter(pk=self.org_id, found=0).exists():
                self._end(now)
                break
            Purge.objects.filter(pk=self.org_id).update(found=0)
        redis_keys.forget(self.org_id)  # what was read of it meanwhile is cached there
        return True

    def _round(self, purge: Purge, until: float | None) -> bool:
        """All tables once, from the one where the last slice ended. False: time is up."""
        names = [model._meta.label for model in tables()]
        start = names.index(purge.table) if purge.table in names else 0
        for model in tables()[start:]:
            after: Any = None
            while page := self._page(model, after):
                self._remove(model, page)
                after = page[-1]
                failpoint("purge.page")
                if until is not None and time.monotonic() > until:
                    Purge.objects.filter(pk=self.org_id).update(table=model._meta.label)
                    return False
        Purge.objects.filter(pk=self.org_id).update(table="")
        return True

    def _page(self, model: type[models.Model], after: Any) -> list[Any]:
        """Not every table has an index by org: in the order of primary keys each row is read once a round."""
        rows = model._base_manager.filter(of_org(model, self.org_id))
        return list((rows if after is None else rows.filter(pk__gt=after)).order_by("pk").values_list("pk", flat=True)[:PAGE])

    def _remove(self, model: type[models.Model], page: list[Any]) -> None:
        gone: Counter[str] = BEFORE[model](page) if model in BEFORE else Counter()
        with transaction.atomic(using=router.db_for_write(Org)):
            if getattr(model, "store", "") == "tasks":
                gone[model._meta.label] += bulk.remove(model, pk=page)
            else:
                _forget_log(model, page)
                gone += Counter(model._base_manager.filter(pk__in=page).delete()[1])  # and what refers to it
            row = Purge.objects.select_for_update().filter(pk=self.org_id).first()
            if row is not None:  # else another copy has come to the end
                row.rows, row.found, row.touched_at = dict(Counter(row.rows) + gone), row.found + len(page), clock.now()
                row.save(update_fields=["rows", "found", "touched_at"])
        observe.ROWS_REMOVED.inc("purge", by=sum(gone.values()))

    def _end(self, now: datetime) -> None:
        """The org, the intent and the one line that is left, in one transaction: of two copies one writes it."""
        with transaction.atomic(using=router.db_for_write(Org)):
            purge = Purge.objects.select_for_update().filter(pk=self.org_id).first()
            org = Org.objects.filter(pk=self.org_id).first()
            if purge is None or not Purge.objects.filter(pk=self.org_id).delete()[0]:
                return
            if org is not None:
                _forget_log(Org, [self.org_id])
                org.delete()
            old = {"name": org.name if org else "", "asked_at": purge.at.isoformat(), "rows": purge.rows}
            record(org_id=PLATFORM, kind=Change.Kind.ORG, key=self.org_id, old=old, new=None, by=purge.by, at=now)
        keys.ring.forget_all()
        log.info("org.purged", extra={"org": self.org_id, "rows": sum(purge.rows.values())})


# ---- what goes before a page of rows does -----------------------------------------------------------------


def _tasks(page: Sequence[str]) -> Counter[str]:
    return Counter({model._meta.label: bulk.remove(model, **{name: list(page)}) for model, name in TASK_PARTS})


def _sessions(page: Sequence[str]) -> Counter[str]:
    Session.objects.filter(pk__in=page).update(run=endings.GONE)
    return Counter({Session._meta.label: sum(map(endings.drop, Session.objects.filter(pk__in=page).defer("document")))})


def _jobs(page: Sequence[str]) -> Counter[str]:
    """Their processes are stopped, their uploads and what Celery knows of them erased."""
    gone = JobDependency.objects.filter(models.Q(job_id__in=page) | models.Q(on_id__in=page)).delete()[1]
    for job in Job.objects.filter(pk__in=page).only("id", "status", "backend", "worker", "request"):
        if job.status == JobStatus.STARTED:
            backend_of(job.backend).interrupt(job.id, job.worker)
        celery_results.forget(job.id)
        erase(job.request)
    return Counter(gone)


def _keys(page: Sequence[str]) -> Counter[str]:
    """An agent's key is a signed JWT in its hands: NATS goes on refusing it, whoever has the org's id later."""
    shut = ApiKey.objects.filter(pk__in=page).exclude(nats_public_key="").values_list("nats_public_key", "expires_at")
    ShutKey.objects.bulk_create([ShutKey(nats_public_key=key, expires_at=at) for key, at in shut], ignore_conflicts=True)
    return Counter()


def _schedules(page: Sequence[int]) -> Counter[str]:
    for row in Schedule.objects.filter(pk__in=page):
        beat_rows.forget(row)
    return Counter()


def _endpoints(page: Sequence[str]) -> Counter[str]:
    redis_keys.forget_endpoints(page)
    return Counter()


def _documents(page: Sequence[str]) -> Counter[str]:
    """Their vectors may live elsewhere."""
    by_collection: dict[tuple[str, str], list[str]] = {}
    for org_id, collection, key in ContextDocument.objects.filter(pk__in=page).values_list("org_id", "collection", "key"):
        by_collection.setdefault((org_id, collection), []).append(key)
    for (org_id, collection), names in by_collection.items():
        vectors.index().remove(org_id, collection, names)
    return Counter()


def _logins(page: Sequence[int]) -> Counter[str]:
    """Who signed in as nobody but a subject of the org has no account any more; staff stay."""
    users = get_user_model().objects.filter(person__pk__in=page, is_staff=False, is_superuser=False)
    return Counter(users.delete()[1])


BEFORE: dict[type[models.Model], Callable[[Sequence[Any]], Counter[str]]] = {
    Task: _tasks, Session: _sessions, Job: _jobs, ApiKey: _keys, Schedule: _schedules, Endpoint: _endpoints,
    ContextDocument: _documents, Login: _logins,
}  # fmt: skip


def _forget_log(model: type[models.Model], page: Sequence[Any]) -> None:
    """What Django's admin noted of them, under the model's name or a proxy's."""
    named = ContentType.objects.filter(app_label=model._meta.app_label, model=model._meta.model_name)
    ids = {one.pk for one in named} | {
        ContentType.objects.get_for_model(proxy, for_concrete_model=False).pk for proxy in model.__subclasses__() if proxy._meta.proxy
    }
    LogEntry.objects.filter(content_type_id__in=ids, object_id__in=[str(pk) for pk in page]).delete()
