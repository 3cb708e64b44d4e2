"""Deliveries from transitions: every move of a task is a row, and each row that an endpoint wants becomes one delivery.

A cursor walks over the transitions in the order of their ids, so news is only a bell: a lost one costs a moment, never a
delivery. Ids are made before their rows are committed, so a row may appear behind the cursor: what lies behind it is read
again, near parts often, far parts seldom (`DEPTHS`), and whatever has no delivery gets one. Doing any of it twice, or in
two processes, makes nothing twice: the id of a delivery follows from endpoint and transition.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from django.db.models import Min

from apps.core import bulk, clock, ids, observe
from apps.tasks.events import TasksMoved
from apps.tasks.models import Assignment, Transition
from apps.webhooks.event_types import floor, has_agent, task_body, wants
from apps.webhooks.models import PENDING, Cursor, Delivery, Endpoint
from apps.webhooks.order import Order
from apps.webhooks.schedule import LIFE

log = logging.getLogger(__name__)

PAGE = 500
PAGES = 20
"""Pages of new transitions in one go; there is another go at once."""
DEPTHS = ((5.0, timedelta(seconds=30)), (60.0, timedelta(minutes=10)), (600.0, timedelta(hours=2)))
"""(how often, s; how far back). The last is further than the loader tells of moves whose mover died (an hour)."""
CURSOR = "transitions"
KNOWN_SECONDS = 2.0
Row = tuple[str, str, str, str, str, str, int, datetime]
FIELDS = ("id", "task_key", "org_id", "old", "new", "reason", "attempt", "at")

_known: tuple[float, dict[str, list[Endpoint]]] = (0.0, {})


def listening() -> dict[str, list[Endpoint]]:
    """The enabled endpoints by org, at most KNOWN_SECONDS old."""
    global _known
    at = time.monotonic()
    if not _known[0] or at - _known[0] > KNOWN_SECONDS:
        found: dict[str, list[Endpoint]] = {}
        for row in Endpoint.objects.filter(enabled=True):
            found.setdefault(row.org_id, []).append(row)
        _known = (at, found)
    return _known[1]


def forget() -> None:
    global _known
    _known = (0.0, {})


def heard(news: TasksMoved) -> None:
    """Ring, when anybody listens. That is all: who tells of a move must not wait for whoever wants to know."""
    orgs = listening()
    if orgs and any(move.org_id in orgs for move in news.moves):
        Order().ring()


def span(endpoint_id: str, low: str = "", high: str = "g") -> tuple[str, str]:
    """Keys of an endpoint's deliveries (and attempts) between two transition ids; they sort by time."""
    return f"{endpoint_id}:{low}", f"{endpoint_id}:{high}"


def delivery(endpoint: Endpoint, transition_id: str, event: str, body: str, now: datetime, *, task_key: str = "") -> Delivery:
    return bulk.new(
        Delivery, id=f"{endpoint.pk}:{transition_id}", org_id=endpoint.org_id, endpoint_id=endpoint.pk, task_key=task_key, event=event,
        body=body, due_at=now, created_at=now, give_up_at=now + LIFE,
    )  # fmt: skip


class Deriver:
    def run(self, *, now: datetime) -> int:
        """Deliveries for the transitions behind the cursor; how many were made. True to its word also when two run."""
        orgs = listening()
        if not orgs:
            return 0
        cursor = self._cursor(orgs)
        made = 0
        for _ in range(PAGES):
            rows = _page(cursor.upto)
            made += self._make(rows, orgs, now)
            if rows:
                cursor.upto = rows[-1][0]
                Cursor.objects.filter(pk=CURSOR, upto__lt=cursor.upto).update(upto=cursor.upto)
            if len(rows) < PAGE:
                break
        return made

    def look_again(self, *, now: datetime) -> int:
        """Read what is due to be read again; how many deliveries were missing."""
        orgs = listening()
        cursor = Cursor.objects.filter(pk=CURSOR).first()
        if not orgs or cursor is None:
            return 0
        made, at = 0, clock.to_ms(now)
        for period, depth in reversed(DEPTHS):
            name = f"{depth.total_seconds():g}"
            last = cursor.looked.get(name, 0)
            if at - last < period * 1000:
                continue
            # After an outage the depth counts from the last look: what was being written then may have come since.
            since = floor((clock.from_ms(last) if last else now) - depth)
            made += self._missing(orgs, since, cursor.upto, now)
            cursor.looked[name] = at
            Cursor.objects.filter(pk=CURSOR).update(looked=cursor.looked)
        for endpoint in (each for group in orgs.values() for each in group if each.catch_up_from):
            upto = max(cursor.upto, endpoint.from_transition)
            made += self._missing({endpoint.org_id: [endpoint]}, endpoint.catch_up_from, upto, now, catching_up=True)
            Endpoint.objects.filter(pk=endpoint.pk, catch_up_from=endpoint.catch_up_from).update(catch_up_from="")
            forget()
        if made:
            log.info("webhooks.missed_found", extra={"deliveries": made})
            observe.REPAIRS.inc("webhooks", by=made)
        return made

    def rebuild(self, *, now: datetime) -> None:
        """Put every endpoint with something to send in its place; after Redis was emptied, and now and then."""
        wanted = [each.pk for group in listening().values() for each in group]
        rows = Delivery.objects.filter(endpoint_id__in=wanted, state=PENDING).values_list("endpoint_id")
        for endpoint_id, due_at in rows.annotate(due=Min("due_at")).order_by():
            Order().put([endpoint_id], due_at)

    def _cursor(self, orgs: dict[str, list[Endpoint]]) -> Cursor:
        first = min(each.from_transition for group in orgs.values() for each in group)
        cursor = Cursor.objects.filter(pk=CURSOR).first()
        if cursor is None:
            bulk.insert_missing([Cursor(id=CURSOR, upto=first)])
            cursor = Cursor.objects.get(pk=CURSOR)
        # Nobody listened for a while: what nobody wanted is not read.
        cursor.upto = max(cursor.upto, first)
        return cursor

    def _missing(self, orgs: dict[str, list[Endpoint]], low: str, high: str, now: datetime, *, catching_up: bool = False) -> int:
        made = 0
        while rows := _page(low, high):
            there: set[str] = set()
            for endpoint in (each for group in orgs.values() for each in group):
                first, last = span(endpoint.pk, rows[0][0], rows[-1][0])
                there.update(Delivery.objects.filter(pk__gte=first, pk__lte=last).values_list("pk", flat=True))
            made += self._make(rows, orgs, now, there=there, catching_up=catching_up)
            low = rows[-1][0]
            if len(rows) < PAGE:
                break
        return made

    def _make(
        self, rows: Sequence[Row], orgs: dict[str, list[Endpoint]], now: datetime, *, there: Iterable[str] = (), catching_up: bool = False
    ) -> int:
        wanted = [
            (endpoint, row)
            for row in rows
            for endpoint in orgs.get(row[2], ())
            if wants(endpoint.events, f"task.{row[4]}")
            and (catching_up or row[0] > endpoint.from_transition)
            and f"{endpoint.pk}:{row[0]}" not in there
        ]
        if not wanted:
            return 0
        agents = _agents(row for _, row in wanted)
        made = []
        for endpoint, (id_, task_key, _, old, new, reason, attempt, at) in wanted:
            agent = agents.get(ids.assignment_id(task_key, attempt), "") if has_agent(old, new) else ""
            text = task_body(
                transition_id=id_, task_key=task_key, old=old, new=new, reason=reason, attempt=attempt, agent=agent, at=at
            )  # fmt: skip
            made.append(delivery(endpoint, id_, f"task.{new}", text, now, task_key=task_key))
        bulk.insert_missing(made)
        Order().put({endpoint.pk for endpoint, _ in wanted}, now)
        return len(made)


def _page(after: str, upto: str = "") -> list[Row]:
    rows = Transition.objects.filter(pk__gt=after)
    if upto:
        rows = rows.filter(pk__lte=upto)
    return list(rows.order_by("pk").values_list("pk", *FIELDS[1:])[:PAGE])


def _agents(rows: Iterable[Row]) -> dict[str, str]:
    names: Iterator[str] = (ids.assignment_id(row[1], row[6]) for row in rows if has_agent(row[3], row[4]))
    wanted = list(dict.fromkeys(names))
    return dict(Assignment.objects.filter(pk__in=wanted).values_list("pk", "head_agent_subject_id")) if wanted else {}


