"""What is kept for how long: one table. A kind is found by its age, org by org, and goes with all its parts.

What is not here has a bound of its own (docs/retention.md says which), or is kept for ever: the audit trail, and what people
wrote: keys, roles, scripts, schedules, endpoints, documents, dead letters that wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import models

from apps.agents.models import Auction, Bid, Evidence
from apps.core import bulk
from apps.dsl.models import Backtest, BacktestFlip, PolicyRun
from apps.dsl.policies import Hook
from apps.orgs.config_keys import OrgConfig
from apps.retention.needed import ENDED, PAGE, SESSION_OVER, by_arrival, old_tasks, open_tasks
from apps.tasks.models import Assignment, BulkAction, DeadLetter, Decision, Report, ScheduleFiring, Task, Transition
from apps.webhooks.derive import span
from apps.webhooks.event_types import floor
from apps.webhooks.models import DELIVERED, FAILED, Attempt, Delivery, Endpoint
from apps.workflows.engine import endings, undoing
from apps.workflows.models import Chunk, ContextValue, ContextWrite, Item, Session, SessionEvent, Step

Part = tuple[type[models.Model], str]
"""Rows that name a root, and the field in which they do."""


def days_of_tasks(config: OrgConfig) -> int:
    return config.task_retention_days


def days_of_decisions(config: OrgConfig) -> int:
    return config.decision_retention_days


def days_of_deliveries(config: OrgConfig) -> int:
    """A delivery tells of a task, and is made when that moves: with the task's time its own is over."""
    return min(config.webhook_retention_days, config.task_retention_days or config.webhook_retention_days)


@dataclass(frozen=True, kw_only=True)
class Kind:
    name: str
    """As metrics, logs and the dry run call it."""
    days: Callable[[OrgConfig], int]
    """How long an org keeps it; 0: for ever, or as long as what it belongs to."""
    root: type[models.Model]
    old: Callable[[str, datetime], Iterator[list[str]]]
    """(org, before) -> primary keys of roots whose time was over before then, a page at a time."""
    parts: tuple[Part, ...] = ()
    guards: dict[str, Any] = field(default_factory=dict)
    """What must still be true of a root when it goes."""

    def before(self, config: OrgConfig, now: datetime) -> datetime | None:
        days = self.days(config)
        return now - timedelta(days=days) if days else None

    def count(self, roots: Sequence[str]) -> Counter[str]:
        found = Counter({self.root._meta.label: len(roots)})
        for model, name in self.parts:
            found[model._meta.label] += model._base_manager.filter(**{f"{name}__in": roots}).count()
        return found

    def remove(self, roots: Sequence[str]) -> Counter[str]:
        """Parts first: where there are no transactions, a root that is left is how whoever comes next finds what is left."""
        gone: Counter[str] = Counter()
        with bulk.atomic(self.root):
            for model, name in self.parts:
                gone[model._meta.label] += bulk.remove(model, **{name: list(roots)})
            gone[self.root._meta.label] += bulk.remove(self.root, pk=list(roots), **self.guards)
        return gone


class Sessions(Kind):
    """A session may have a million rows: it goes some rows at a time, its own row last."""

    def count(self, roots: Sequence[str]) -> Counter[str]:
        found = super().count(roots)
        for some in _pages(Chunk.objects.filter(session_key__in=roots)):
            found[Item._meta.label] += Item.objects.filter(chunk_id__in=some).count()
        return found

    def remove(self, roots: Sequence[str]) -> Counter[str]:
        gone: Counter[str] = Counter()
        for row in Session.objects.filter(pk__in=roots).defer("document"):
            gone[Session._meta.label] += endings.drop(row)
        return gone


def _old_sessions(org_id: str, before: datetime) -> Iterator[list[str]]:
    for status in SESSION_OVER:
        rows = Session.objects.filter(org_id=org_id, status=status, published=True, finished_at__lt=before)
        for page in by_arrival(rows.exclude(compensation=undoing.RUNNING), before, "key"):
            yield [key for (key,) in page]


def _old_runs(org_id: str, before: datetime) -> Iterator[list[str]]:
    for hook in Hook:
        yield from _decided(PolicyRun.objects.filter(org_id=org_id, hook=hook.value), before)


def _old_auctions(org_id: str, before: datetime) -> Iterator[list[str]]:
    yield from _decided(Auction.objects.filter(org_id=org_id), before)


def _decided(rows: models.QuerySet, before: datetime) -> Iterator[list[str]]:
    """Decisions about tasks that have ended: an open one may still be explained, and its runner-up wanted."""
    after = ""
    while page := list(rows.filter(pk__gt=after, pk__lt=floor(before)).order_by("pk").values_list("pk", "task_key")[:PAGE]):
        still_open = open_tasks(list({key for _, key in page}))
        if free := [pk for pk, key in page if key not in still_open]:
            yield free
        after = page[-1][0]


def _old_deliveries(org_id: str, before: datetime) -> Iterator[list[str]]:
    for endpoint_id in Endpoint.objects.filter(org_id=org_id or None).values_list("pk", flat=True):
        # By id, which sorts by time: no further index is needed.
        low, high = span(endpoint_id, "", floor(before))
        yield from _pages(Delivery.objects.filter(pk__gte=low, pk__lt=high, state__in=[DELIVERED, FAILED]))


def _old_firings(org_id: str, before: datetime) -> Iterator[list[str]]:
    rows = ScheduleFiring.objects.filter(schedule__org_id=org_id, planned_at__lt=before)
    yield from _pages(rows.exclude(outcome=ScheduleFiring.Outcome.PLANNED))


def _old_actions(org_id: str, before: datetime) -> Iterator[list[str]]:
    over = [BulkAction.Status.DONE.value, BulkAction.Status.STOPPED.value]
    yield from _pages(BulkAction.objects.filter(org_id=org_id, pk__lt=floor(before), status__in=over, finished_at__lt=before))


def _old_backtests(org_id: str, before: datetime) -> Iterator[list[str]]:
    over = [Backtest.Status.DONE.value, Backtest.Status.FAILED.value]
    yield from _pages(Backtest.objects.filter(org_id=org_id, status__in=over, ended_at__lt=before))


def _pages(rows: models.QuerySet) -> Iterator[list[str]]:
    """Primary keys, a page at a time; the page may be gone when the next is asked for."""
    after = ""
    while page := list(rows.filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:PAGE]):
        yield page
        after = page[-1]


TASK_PARTS: tuple[Part, ...] = (
    (Transition, "task_key"), (Assignment, "task_key"), (Report, "task_key"), (Decision, "task_key"), (PolicyRun, "task_key"),
    (Bid, "task_key"), (Auction, "task_key"), (Evidence, "task_key"), (DeadLetter, "pk"),
)  # fmt: skip
SESSION_PARTS: tuple[Part, ...] = tuple((model, "session_key") for model in (Step, Chunk, SessionEvent, ContextWrite, ContextValue))

KINDS = (
    Kind(name="tasks", days=days_of_tasks, root=Task, old=old_tasks, parts=TASK_PARTS, guards={"status": ENDED}),
    Sessions(name="sessions", days=days_of_tasks, root=Session, old=_old_sessions, parts=SESSION_PARTS),
    Kind(name="policy_runs", days=days_of_decisions, root=PolicyRun, old=_old_runs),
    Kind(name="auctions", days=days_of_decisions, root=Auction, old=_old_auctions, parts=((Bid, "auction_id"),)),
    Kind(name="deliveries", days=days_of_deliveries, root=Delivery, old=_old_deliveries, parts=((Attempt, "delivery_id"),)),
    Kind(name="firings", days=days_of_tasks, root=ScheduleFiring, old=_old_firings),
    Kind(name="actions", days=days_of_tasks, root=BulkAction, old=_old_actions),
    Kind(name="backtests", days=days_of_tasks, root=Backtest, old=_old_backtests, parts=((BacktestFlip, "backtest_id"),)),
)
