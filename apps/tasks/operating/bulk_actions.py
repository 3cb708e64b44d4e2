"""One verb on all tasks that a filter finds: counted first, then done in the background, a batch of writes at a time.

A preview answers a count, some of those it counted, and a token that holds the question; carrying out takes the token, and
never touches more than was shown: what came later is left alone, and when more fit than were counted nothing is done.

A run is a row (`BulkAction`) with a cursor through the order of arrival. Whoever works on it takes the row's next step for
itself (compare-and-set), does a batch and moves the cursor; one that dies leaves its step, and the next does that batch
again, which is harmless: every verb here leaves alone what is already as it should be.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.core import signing
from django.db.models import Q

from apps.core import background, bulk, clock, ids
from apps.core.errors import Conflict, Invalid, Malformed, Missing, Problem
from apps.tasks.listing import BadQuery, DeadLetterQuery, TaskQuery, cursor_of, page_of, read_cursor
from apps.tasks.models import BulkAction, DeadLetter, Task
from apps.tasks.operating import bulk_verbs
from apps.tasks.operating.bulk_verbs import Outcome

log = logging.getLogger(__name__)

WORK = "upkeep.bulk_actions"
BATCH = 500
SAMPLE = 10
IDS_MAX = 1000
PROBLEMS_KEPT = 50
TOKEN_SECONDS = 15 * 60
LEASE_SECONDS = 60.0
SLICE_SECONDS = 1.5
"""The upkeep worker has other work: after so long it rings for itself again."""
SALT = "tasks.bulk_actions"

TASKS, DEAD_LETTERS = "tasks", "dead_letters"
S = BulkAction.Status


class BadToken(Malformed):
    code, sentence = "bad_token", "The token is not one of ours, or too old: ask for the count again."


class MoreThanShown(Conflict):
    code, sentence, shown = "more_than_shown", "More fit the filter now than were counted; nothing was done.", ("count", "expected_count")


class NotGoing(Conflict):
    code, sentence, shown = "not_going", "The action is over.", ("status",)


class _Params(dict[str, list[str]]):
    """A filter in JSON, read like a query string."""

    def getlist(self, name: str) -> list[str]:
        return super().get(name, [])

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name)[-1]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What was asked for, checked: all of it plain JSON, so it can be a token or a row."""

    source: str
    action: str
    filter: dict[str, Any]
    arguments: dict[str, Any]

    def rows(self, org_id: str, *, upto: int) -> Any:
        """Those that the verb is for, up to a place in the order of arrival."""
        given = {name: value for name, value in self.filter.items() if name != "task_ids"}
        query = (TaskQuery if self.source == TASKS else DeadLetterQuery).of(_params(given))
        rows = query.rows(org_id).filter(sequence__lte=upto)
        if self.source == TASKS:
            rows = rows.filter(status__in=sorted(bulk_verbs.FOR[self.action]))
        if "task_ids" in self.filter:
            rows = rows.filter(pk__in=[ids.task_key(org_id, task_id) for task_id in self.filter["task_ids"]])
        return rows


@dataclass(frozen=True, kw_only=True)
class Preview:
    count: int
    sample: list[Any]
    token: str


def _params(given: Mapping[str, Any]) -> _Params:
    found, problems = _Params(), []
    for name, value in given.items():
        if name == "where" and isinstance(value, dict):
            found[name] = [orjson.dumps(value).decode()]
            continue
        values = value if isinstance(value, list) else [value]
        if not all(type(one) in (str, int) for one in values) or (isinstance(value, list) and name not in ("status", "kind", "state")):
            problems.append(Problem(field=name[:80], code="wrong_type", message="must be text or a whole number"))
        else:
            found[name] = [str(one) for one in values]
    if problems:
        raise BadQuery(problems)
    return found


def check(wanted: Wanted) -> None:
    """Raises Invalid, each problem under `filter.`."""
    unknown = [name for name in ("limit", "cursor") if name in wanted.filter]
    problems = [Problem(field=f"filter.{name}", code="unknown", message="is not a filter") for name in unknown]
    names = wanted.filter.get("task_ids")
    if names is not None and not (isinstance(names, list) and len(names) <= IDS_MAX and all(isinstance(name, str) for name in names)):
        problems.append(Problem(field="filter.task_ids", code="wrong_type", message=f"must be a list of at most {IDS_MAX} task ids"))
    if problems:
        raise Invalid(problems)
    try:
        wanted.rows("", upto=0)
    except BadQuery as error:
        raise Invalid([Problem(field=f"filter.{p.field}", code=p.code, message=p.message) for p in error.problems]) from None


# ---- asking for it ----------------------------------------------------------------------------------------


def preview(org_id: str, wanted: Wanted) -> Preview:
    upto = clock.sequence()
    rows = wanted.rows(org_id, upto=upto)
    count = rows.count()
    sample, _ = page_of(rows, org_id, after=None, limit=SAMPLE)
    held = {"org": org_id, "upto": upto, "count": count, "source": wanted.source, "action": wanted.action}
    token = signing.dumps({**held, "filter": wanted.filter, "arguments": wanted.arguments}, salt=SALT, compress=True)
    return Preview(count=count, sample=sample, token=token)


def start_token(org_id: str, token: str, *, actor: str, now: datetime) -> BulkAction:
    """Carry out what was previewed. Twice with one token is one action. Raises BadToken, MoreThanShown."""
    try:
        held = signing.loads(token, salt=SALT, max_age=TOKEN_SECONDS)
    except signing.BadSignature:
        raise BadToken() from None
    if held["org"] != org_id:
        raise BadToken()
    wanted = Wanted(**{name: held[name] for name in ("source", "action", "filter", "arguments")})
    return _start(org_id, wanted, expected=held["count"], upto=held["upto"], actor=actor, now=now)


def start(org_id: str, wanted: Wanted, *, expected: int, actor: str, now: datetime) -> BulkAction:
    """Without a preview, for those who know the count. Raises MoreThanShown."""
    return _start(org_id, wanted, expected=expected, upto=clock.sequence(), actor=actor, now=now)


def _start(org_id: str, wanted: Wanted, *, expected: int, upto: int, actor: str, now: datetime) -> BulkAction:
    key = f"{upto:016x}{hashlib.sha256(repr((org_id, wanted)).encode()).hexdigest()[:16]}"
    known = BulkAction.objects.filter(pk=key, org_id=org_id).first()
    if known is not None:
        return known
    count = wanted.rows(org_id, upto=upto).count()
    if count > expected:
        raise MoreThanShown(count=count, expected_count=expected)
    action = bulk.new(
        BulkAction, id=key, org_id=org_id, source=wanted.source, action=wanted.action, filter=wanted.filter, arguments=wanted.arguments,
        upto=upto, total=count, actor=actor, created_at=now, updated_at=now,
    )  # fmt: skip
    bulk.insert_missing([action])
    background.send(WORK)
    return BulkAction.objects.get(pk=key)


def find(org_id: str, action_id: str) -> BulkAction:
    found = BulkAction.objects.filter(pk=action_id, org_id=org_id).first()
    if found is None:
        raise Missing()
    return found


def stop(action: BulkAction, *, now: datetime) -> BulkAction:
    """Nothing more is begun; what is done stays done. Raises NotGoing."""
    going = BulkAction.objects.filter(pk=action.pk, status__in=[S.PENDING, S.RUNNING])
    if not going.update(status=S.STOPPED, finished_at=now, updated_at=now):
        action.refresh_from_db()
        raise NotGoing(status=action.status)
    action.refresh_from_db()
    return action


# ---- doing it ---------------------------------------------------------------------------------------------


class BulkRunner:
    """Works on what is asked for. Any number of copies may run."""

    def __init__(self, *, batch: int = BATCH, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._batch, self._monotonic = batch, monotonic

    def run(self, *, now: Callable[[], datetime] = clock.now, seconds: float = SLICE_SECONDS) -> bool:
        """Batches for `seconds`. True when there is more to do."""
        until = self._monotonic() + seconds
        while True:
            due = self._due(now())
            if not due:
                return False
            for action in due:
                if self._monotonic() >= until:
                    return True
                self.step(action, now=now())

    def waiting(self, *, now: datetime) -> bool:
        return bool(self._due(now))

    def _due(self, now: datetime) -> list[BulkAction]:
        free = Q(status=S.PENDING) | Q(status=S.RUNNING, lease_until__lte=now)
        return list(BulkAction.objects.filter(free).order_by("id")[:20])

    def step(self, action: BulkAction, *, now: datetime) -> bool:
        """One batch. False when somebody else is at it."""
        mine = action.step + 1
        lease = {"step": mine, "status": S.RUNNING.value, "lease_until": now + timedelta(seconds=LEASE_SECONDS)}
        if not _cas(action, {"step": action.step, "status": action.status}, lease):
            return False
        wanted = Wanted(source=action.source, action=action.action, filter=action.filter, arguments=action.arguments)
        rows, following = self._next(action, wanted)
        outcome = bulk_verbs.carry_out(wanted.source, wanted.action, rows, wanted.arguments, actor=action.actor, now=now)
        self._record(action, mine, outcome, following, now)
        return True

    def _next(self, action: BulkAction, wanted: Wanted) -> tuple[Sequence[Task | DeadLetter], str | None]:
        left = action.total - action.done
        if left <= 0:
            return [], None
        after = read_cursor(action.cursor) if action.cursor else None
        rows = wanted.rows(action.org_id, upto=action.upto)
        if wanted.source == TASKS:
            rows = rows.only("key", "task_id", "sequence", "org_id")
        # What comes to fit the filter while we work (it is queued again, say) is no reason to touch more than was counted.
        found, more = page_of(rows, action.org_id, after=after, limit=min(self._batch, left))
        return found, cursor_of(found[-1]) if more and len(found) < left else None

    def _record(self, action: BulkAction, mine: int, outcome: Outcome, following: str | None, now: datetime) -> None:
        fields: dict[str, Any] = {
            "step": mine + 1,
            "done": action.done + outcome.changed + outcome.skipped + len(outcome.problems),
            "changed": action.changed + outcome.changed,
            "skipped": action.skipped + outcome.skipped,
            "failed": action.failed + len(outcome.problems),
            "problems": [*action.problems, *outcome.problems][:PROBLEMS_KEPT],
            "cursor": following or action.cursor,
            "lease_until": now,
            "updated_at": now,
        }
        ending = {} if following else {"status": S.DONE.value, "finished_at": now}
        if not _cas(action, {"step": mine, "status": S.RUNNING.value}, {**fields, **ending}):
            # Stopped meanwhile: what was done is still told. Or our lease ran out and somebody did the batch again.
            _cas(action, {"step": mine, "status": S.STOPPED.value}, fields)
        if ending:
            facts = {"id": action.pk, "org": action.org_id, "action": action.action, "changed": fields["changed"]}
            log.info("bulk_action.done", extra=facts)


def _cas(action: BulkAction, guards: dict[str, Any], fields: dict[str, Any]) -> bool:
    return bool(bulk.compare_and_set(BulkAction, [bulk.Change(pk=action.pk, guards=guards, fields=fields)]))


# ---- as JSON ----------------------------------------------------------------------------------------------


def shape(action: BulkAction) -> dict[str, Any]:
    return {
        "id": action.pk,
        "source": action.source,
        "action": action.action,
        "filter": action.filter,
        "arguments": action.arguments,
        "status": action.status,
        "total": action.total,
        "done": action.done,
        "changed": action.changed,
        "skipped": action.skipped,
        "failed": action.failed,
        "problems": action.problems,
        "actor": action.actor,
        "created_at": clock.iso(action.created_at),
        "finished_at": clock.iso(action.finished_at),
    }
