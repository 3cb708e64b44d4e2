"""Deliveries from moves: every move of a task (or of a job) is a row, and each row that an endpoint wants becomes one delivery.

A cursor walks over each log of moves (`sources`) in the order of its ids, so news is only a bell: a lost one costs a moment,
never a delivery. Ids are made before their rows are committed, so a row may appear behind the cursor: what lies behind it is
read again, near parts often, far parts seldom (`DEPTHS`), and whatever has no delivery gets one. Doing any of it twice, or in
two processes, makes nothing twice: the id of a delivery follows from endpoint and move.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db.models import Min

from apps.core import bulk, clock, observe
from apps.tasks.events import TasksMoved
from apps.webhooks.callbacks import answering
from apps.webhooks.event_types import floor, wants
from apps.webhooks.models import PENDING, Cursor, Delivery, Endpoint
from apps.webhooks.order import Order
from apps.webhooks.schedule import LIFE
from apps.webhooks.sources import Move, Source, sources

log = logging.getLogger(__name__)

PAGE = 500
PAGES = 20
"""Pages of new moves in one go; there is another go at once."""
DEPTHS = ((5.0, timedelta(seconds=30)), (60.0, timedelta(minutes=10)), (600.0, timedelta(hours=2)))
"""(how often, s; how far back). The last is further than the loader tells of moves whose mover died (an hour)."""
KNOWN_SECONDS = 2.0

_known: tuple[float, dict[str, list[Endpoint]]] = (0.0, {})


def listening() -> dict[str, list[Endpoint]]:
    """The enabled endpoints by org (empty: jobs of no org), at most KNOWN_SECONDS old."""
    global _known
    at = time.monotonic()
    if not _known[0] or at - _known[0] > KNOWN_SECONDS:
        found: dict[str, list[Endpoint]] = {}
        for row in Endpoint.objects.filter(enabled=True):
            found.setdefault(row.org_id or "", []).append(row)
        _known = (at, found)
    return _known[1]


def forget() -> None:
    global _known
    _known = (0.0, {})


def heard(news: TasksMoved) -> None:
    """Ring, when anybody listens. That is all: who tells of a move must not wait for whoever wants to know."""
    ring(move.org_id for move in news.moves)


def ring(org_ids: Iterable[str]) -> None:
    """Something of these orgs has moved."""
    orgs = listening()
    if orgs and any(org_id in orgs for org_id in org_ids):
        Order().ring()


def span(endpoint_id: str, low: str = "", high: str = "g") -> tuple[str, str]:
    """Keys of an endpoint's deliveries (and attempts) between two transition ids; they sort by time."""
    return f"{endpoint_id}:{low}", f"{endpoint_id}:{high}"


def delivery(
    endpoint: Endpoint, move_id: str, event: str, body: str, now: datetime, *, task_key: str = "", job_id: str = "",
    url: str = "",
) -> Delivery:  # fmt: skip
    return bulk.new(
        Delivery, id=f"{endpoint.pk}:{move_id}", org_id=endpoint.org_id or "", endpoint_id=endpoint.pk, task_key=task_key, job_id=job_id,
        url=url, event=event, body=body, due_at=now, created_at=now, give_up_at=now + LIFE,
    )  # fmt: skip


class Deriver:
    def run(self, *, now: datetime) -> int:
        """Deliveries for the moves behind the cursors; how many were made. True to its word also when two run."""
        orgs = listening()
        return sum(self._run(source, orgs, now) for source in sources()) if orgs else 0

    def look_again(self, *, now: datetime) -> int:
        """Read what is due to be read again; how many deliveries were missing."""
        orgs = listening()
        cursors = {cursor.pk: cursor for cursor in Cursor.objects.all()}
        if not orgs or any(source.name not in cursors for source in sources()):
            return 0
        made = sum(self._look_again(source, cursors[source.name], orgs, now) for source in sources())
        for endpoint in (each for group in orgs.values() for each in group if each.catch_up_from):
            for source in sources():
                upto = max(cursors[source.name].upto, endpoint.from_transition)
                alone = {endpoint.org_id or "": [endpoint]}
                made += self._missing(source, alone, endpoint.catch_up_from, upto, now, catching_up=True)
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

    def _run(self, source: Source, orgs: dict[str, list[Endpoint]], now: datetime) -> int:
        cursor = self._cursor(source, orgs)
        made = 0
        for _ in range(PAGES):
            moves = source.page(cursor.upto, "", PAGE)
            made += self._make(source, moves, orgs, now)
            if moves:
                cursor.upto = moves[-1].id
                Cursor.objects.filter(pk=source.name, upto__lt=cursor.upto).update(upto=cursor.upto)
            if len(moves) < PAGE:
                break
        return made

    def _cursor(self, source: Source, orgs: dict[str, list[Endpoint]]) -> Cursor:
        first = min(each.from_transition for group in orgs.values() for each in group)
        cursor = Cursor.objects.filter(pk=source.name).first()
        if cursor is None:
            bulk.insert_missing([Cursor(id=source.name, upto=first)])
            cursor = Cursor.objects.get(pk=source.name)
        # Nobody listened for a while: what nobody wanted is not read.
        cursor.upto = max(cursor.upto, first)
        return cursor

    def _look_again(self, source: Source, cursor: Cursor, orgs: dict[str, list[Endpoint]], now: datetime) -> int:
        made, at = 0, clock.to_ms(now)
        for period, depth in reversed(DEPTHS):
            name = f"{depth.total_seconds():g}"
            last = cursor.looked.get(name, 0)
            if at - last < period * 1000:
                continue
            # After an outage the depth counts from the last look: what was being written then may have come since.
            since = floor((clock.from_ms(last) if last else now) - depth)
            made += self._missing(source, orgs, since, cursor.upto, now)
            cursor.looked[name] = at
            Cursor.objects.filter(pk=source.name).update(looked=cursor.looked)
        return made

    def _missing(
        self, source: Source, orgs: dict[str, list[Endpoint]], low: str, high: str, now: datetime, *, catching_up: bool = False
    ) -> int:
        made = 0
        while moves := source.page(low, high, PAGE):
            there: set[str] = set()
            for endpoint in (each for group in orgs.values() for each in group):
                first, last = span(endpoint.pk, moves[0].id, moves[-1].id)
                there.update(Delivery.objects.filter(pk__gte=first, pk__lte=last).values_list("pk", flat=True))
            made += self._make(source, moves, orgs, now, there=there, catching_up=catching_up)
            low = moves[-1].id
            if len(moves) < PAGE:
                break
        return made

    def _make(
        self, source: Source, moves: Sequence[Move], orgs: dict[str, list[Endpoint]], now: datetime, *, there: Iterable[str] = (),
        catching_up: bool = False,
    ) -> int:  # fmt: skip
        wanted = [
            (endpoint, move)
            for move in moves
            for endpoint in _told(orgs.get(move.org_id, ()), move)
            if (catching_up or move.id > endpoint.from_transition) and f"{endpoint.pk}:{move.id}" not in there
        ]
        if not wanted:
            return 0
        told = list({move.id: move for _, move in wanted}.values())
        bodies = dict(zip((move.id for move in told), source.bodies(told), strict=True))
        bulk.insert_missing(
            [
                delivery(
                    endpoint, move.id, move.event, bodies[move.id], now, task_key=move.task_key, job_id=move.job_id,
                    url=move.callback if endpoint.for_jobs else "",
                )
                for endpoint, move in wanted
            ]
        )  # fmt: skip
        Order().put({endpoint.pk for endpoint, _ in wanted}, now)
        return len(wanted)


def _told(endpoints: Sequence[Endpoint], move: Move) -> list[Endpoint]:
    """Those that want such moves, and the one that this move's job named."""
    if not move.event:
        return []
    named = answering(endpoints, move.callback) if move.callback else None
    return [each for each in endpoints if each is named or wants(each.events, move.event)]
