"""Which jobs a list shows: filters from a query string, newest first, page after page by cursor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, QuerySet

from apps.core import pages
from apps.core.queries import Query, cursor_of, read_cursor
from apps.jobs.calls import Owner
from apps.jobs.models import ID_LENGTH, Job
from apps.jobs.states import JobStatus

HEAVY = ("request", "arguments", "result", "traceback")
STATUSES = [status.value for status in JobStatus]
TEXTS = {
    "name": "name__icontains",
    "q": "id__startswith",
    "submitter": "owner",
    "error_code": "error_code",
    "retry_of": "retry_of",
}
TIMES = {
    "created_from": "created_at__gte",
    "created_to": "created_at__lt",
    "ended_from": "ended_at__gte",
    "ended_to": "ended_at__lt",
}
KNOWN = {"status", "queue", "limit", "cursor", *TEXTS, *TIMES}


def visible(owner: Owner) -> QuerySet[Job]:
    """The jobs that lists show this one: an operator's are the org's, anybody else's those he submitted."""
    rows = Job.objects.filter(org_id=owner.org_id)
    return rows if owner.operates else rows.filter(owner=owner.key)


@dataclass(frozen=True, kw_only=True)
class JobQuery:
    lookups: dict[str, Any]
    limit: int
    after: tuple[int, str] | None
    """(sequence, id) of the last row of the page before."""

    @classmethod
    def of(cls, params: Any) -> JobQuery:
        """From a QueryDict. Raises BadQuery with every problem, or BadCursor."""
        query = Query(params, KNOWN, frozenset({"status", "queue"}))
        lookups: dict[str, Any] = {}
        if statuses := query.choices("status", STATUSES):
            lookups["status__in"] = statuses
        if queues := [one for value in params.getlist("queue") for one in value.split(",")]:
            if len(queues) > 50 or not all(0 < len(one) <= 64 for one in queues):
                query.wrong("queue", "must be at most 50 names of 1 to 64 characters")
            lookups["queue__in"] = queues
        for name, lookup in TEXTS.items():
            if value := query.text(name):
                lookups[lookup] = value
        for name, lookup in TIMES.items():
            if at := query.time(name):
                lookups[lookup] = at
        limit = query.limit()
        query.done()
        after = None
        if query.cursor is not None:
            sequence, job_id = read_cursor(query.cursor, (int, str))
            after = (sequence, job_id[:ID_LENGTH])
        return cls(lookups=lookups, limit=limit, after=after)

    def page(self, owner: Owner) -> tuple[list[Job], str | None]:
        """The jobs, and the cursor of the next page when there is one. Heavy columns are left in the database."""
        rows = visible(owner).filter(**self.lookups).defer(*HEAVY)
        if self.after:
            sequence, job_id = self.after
            # Two processes may count the same microsecond; the id settles it.
            rows = rows.filter(Q(sequence__lt=sequence) | Q(sequence=sequence, id__lt=job_id))
        return pages.page_of(rows.order_by("-sequence", "-id"), self.limit, lambda row: cursor_of(row.sequence, row.id))


def summary(owner: Owner) -> dict[str, Any]:
    """How many there are in each status; how many wait or run in each queue that has any."""
    rows = visible(owner).order_by()
    statuses = dict(rows.values_list("status").annotate(number=Count("pk")))
    queues: dict[str, dict[str, int]] = {}
    for queue, status, number in rows.filter(ended_at__isnull=True).values_list("queue", "status").annotate(number=Count("pk")):
        queues.setdefault(queue, {})[status] = number
    return {"statuses": {name: statuses.get(name, 0) for name in STATUSES}, "queues": dict(sorted(queues.items()))}
