"""Running a chunk in a worker: claim it, do its items one after the other, write their results in batches.

The claim is a compare-and-set that raises the chunk's fence; results carry it, and the store refuses those of a lower one.
A worker that dies leaves a lease that lapses: another claims the chunk and goes on with the items that have no result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from apps.core import bulk, clock
from apps.core.failpoint import failpoint
from apps.workflows.document.spec import TaskSpec
from apps.workflows.engine import afterwards, canvas, store
from apps.workflows.engine.executing import Outcome, execute
from apps.workflows.engine.processors import TaskProcessor, WorkItem, find
from apps.workflows.engine.pulse import Watch
from apps.workflows.models import Chunk, ChunkStatus, Item, Session, Step
from apps.workflows.states import ITEM_OPEN, ItemStatus, SessionStatus, StepStatus

LEASE = timedelta(seconds=10)
RENEW_SECONDS = 2.5
FLUSH_ITEMS = 250
FLUSH_SECONDS = 0.5
LOOK_SECONDS = 0.05
"""Between items, so long after the last look: is the work still wanted?"""
DEATHS_MAX = 3
"""So many workers may die of one item."""
CHUNK_FIELDS = ("session_key", "org_id", "step_id", "step_run", "number", "size", "executor", "status", "fence", "lease_until", "deaths")
OPEN = [status.value for status in ITEM_OPEN]
CLAIMABLE = [ChunkStatus.SENT.value, ChunkStatus.WAITING.value, ChunkStatus.RUNNING.value]


class Work(NamedTuple):
    """An item, as far as doing it needs."""

    id: str
    index: int
    attempt: int
    identifier: str
    name: str
    input: dict[str, Any]


ITEM_FIELDS = Work._fields


@dataclass(kw_only=True)
class Claim:
    """A chunk that is ours until its lease lapses."""

    chunk: Chunk
    session: Session
    step: Step
    items: list[Work]
    lost: bool = False
    failed: int = 0
    completed: int = 0
    written: list[str] = field(default_factory=list)


def claim(chunk_id: str, *, now: datetime) -> Claim | None:
    """None: somebody else has it, it is done, or it is no longer wanted."""
    chunk = bulk.load(Chunk, [chunk_id], CHUNK_FIELDS).get(chunk_id)
    if chunk is None or chunk.status not in CLAIMABLE:
        return None
    if chunk.status == ChunkStatus.RUNNING and chunk.lease_until and chunk.lease_until > now:
        return None
    session = store.light(chunk.session_key)
    step = bulk.load(Step, [chunk.step_id], store.STEP_FIELDS).get(chunk.step_id)
    if (refusal := _refusal(chunk, session, step)) is not None:
        _move(chunk, refusal, now=now)
        return None
    fence = chunk.fence + 1
    deaths = chunk.deaths + (chunk.status == ChunkStatus.RUNNING)
    fields = {
        "status": ChunkStatus.RUNNING.value, "fence": fence, "deaths": deaths % DEATHS_MAX, "lease_until": now + LEASE, "updated_at": now,
    }  # fmt: skip
    change = bulk.Change(pk=chunk.pk, guards={"status": chunk.status, "fence": chunk.fence}, fields=fields)
    items: list[Work] = []
    with bulk.atomic(Chunk):
        # Who cancels the step or the session ends its chunks: then the guards no longer hold.
        if not bulk.compare_and_set(Chunk, [change]):
            return None
        if chunk.executor != "agent":
            began = {"status": ItemStatus.RUNNING.value, "fence": fence, "started_at": now}
            bulk.assign(Item, began, chunk_id=chunk.pk, status=OPEN)
            rows = bulk.scan(Item, ITEM_FIELDS, order="index", chunk_id=chunk.pk, status=ItemStatus.RUNNING.value)
            items = [Work(*values) for values in rows]
    chunk.fence, chunk.deaths, chunk.status = fence, deaths, ChunkStatus.RUNNING.value
    failpoint("chunk.claimed")
    return Claim(chunk=chunk, session=session, step=step, items=items)


def _refusal(chunk: Chunk, session: Session, step: Step | None) -> ChunkStatus | None:
    """What becomes of a chunk that must not run now."""
    undoing = step is not None and step.kind == Step.Kind.COMPENSATION
    if session.status == SessionStatus.PAUSED and not undoing:
        return ChunkStatus.WAITING
    live = step is not None and step.status in (StepStatus.RUNNING, StepStatus.EXPANDING) and step.step_run == chunk.step_run
    if not live or (session.status != SessionStatus.RUNNING and not undoing):
        return ChunkStatus.CANCELLED
    return None


def _move(chunk: Chunk, end: ChunkStatus, *, now: datetime) -> bool:
    guards = {"status": chunk.status, "fence": chunk.fence}
    fields = {"status": end.value, "lease_until": None, "updated_at": now}
    return bool(bulk.compare_and_set(Chunk, [bulk.Change(pk=chunk.pk, guards=guards, fields=fields)]))


class ChunkRunner:
    """Does the items of one claimed chunk."""

    def __init__(self, taken: Claim, task: TaskSpec, *, stopping: Callable[[], bool] = lambda: False) -> None:
        self.taken, self.task, self._stopping = taken, task, stopping
        self._ended: list[tuple[Work, Outcome, datetime]] = []
        self._flushed = self._looked = time.monotonic()
        self._loop: asyncio.Runner | None = None
        self._watch = Watch(self._renew, RENEW_SECONDS)
        self._whole = False
        self._careful = taken.chunk.deaths > 0
        """Somebody died at this: each result is written at once, so that the next one knows at which item."""

    def run(self) -> float:
        """Do the items. Answers how many seconds that took; `finish` must follow."""
        began = time.monotonic()
        afterwards.begun()
        try:
            self._whole = self._each(self._watch)
        except BaseException:
            self._watch.stop()
            raise
        finally:
            if self._loop is not None:
                self._loop.close()
        return time.monotonic() - began

    def finish(self) -> bool:
        """Write what is not written yet. True when every item of the chunk has ended and the chunk is done."""
        self._watch.stop()
        with bulk.atomic(Item):
            self._flush()
            failpoint("items.flushed")
            if self._whole and not self.taken.lost and not self._watch.lost:
                return _move(self.taken.chunk, ChunkStatus.DONE, now=clock.now())
        return self._give_back()

    def _each(self, watch: Watch) -> bool:
        items = self.taken.items
        if items and self.taken.chunk.deaths >= DEATHS_MAX:
            reason = f"{DEATHS_MAX} workers died while doing it"
            self._ended.append((items[0], Outcome(status=ItemStatus.FAILED, reason=reason), clock.now()))
            items = items[1:]
        processor = self._processor() if items else None
        for item in items:
            if watch.lost or not self._still_wanted():
                return False
            watch.item_begins(self.task.timeout_s)
            if processor is None:
                outcome = Outcome(status=ItemStatus.FAILED, reason=f"this platform has no processor {self.task.agent_class!r}")
            else:
                outcome = execute(processor, self._work(item), self.task, run=self._drive)
            self._ended.append((item, outcome, clock.now()))
            failpoint("item.done")
            fatal = self.task.fail_fast and outcome.status != ItemStatus.COMPLETED
            if self._careful or fatal or len(self._ended) >= FLUSH_ITEMS or time.monotonic() - self._flushed >= FLUSH_SECONDS:
                self._flush()
        return True

    def _processor(self) -> TaskProcessor | None:
        cls = find(self.task.agent_class)
        if cls is None:
            return None
        session = self.taken.session
        return cls(
            session_key=session.key, session_id=session.session_id, user_id=(session.submitter or {}).get("subject_id", ""), task=self.task
        )

    def _work(self, item: Work) -> WorkItem:
        given = item.input
        return WorkItem(
            session_id=self.taken.session.session_id, org_id=self.taken.session.org_id, path=self.taken.step.path, index=item.index,
            attempt=item.attempt, identifier=item.identifier, name=item.name, values=given.get("values") or {},
            input=given.get("input", self.task.input), message=given.get("message", self.task.message_template),
        )  # fmt: skip

    def _drive(self, coroutine: Any) -> Any:
        if self._loop is None:
            self._loop = asyncio.Runner()

        async def wait() -> Any:
            return await coroutine

        return self._loop.run(wait())

    # Truth

    def _still_wanted(self) -> bool:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return True
        self._looked = now
        if self._stopping():
            return False
        step, session = self.taken.step, self.taken.session
        undoing = step.kind == Step.Kind.COMPENSATION
        wanted = [SessionStatus.RUNNING.value] if not undoing else [status.value for status in SessionStatus]
        return (
            Session.objects.filter(pk=session.pk, status__in=wanted).exists()
            and Chunk.objects.filter(pk=self.taken.chunk.pk, status=ChunkStatus.RUNNING.value, fence=self.taken.chunk.fence).exists()
        )

    def _renew(self) -> bool:
        now = clock.now()
        mine = Chunk.objects.filter(pk=self.taken.chunk.pk, status=ChunkStatus.RUNNING.value, fence=self.taken.chunk.fence)
        return bool(mine.update(lease_until=now + LEASE, updated_at=now))

    def _flush(self) -> None:
        """Write what has ended since the last time. What another holder wrote, or a cancellation, stands."""
        ended, self._ended = self._ended, []
        self._flushed = time.monotonic()
        if not ended:
            return
        rows = [
            bulk.Change(
                pk=item.id,
                guards={"status": ItemStatus.RUNNING.value, "fence": self.taken.chunk.fence},
                fields={"status": outcome.status.value, "result": outcome.result, "reason": outcome.reason, "finished_at": at},
            )
            for item, outcome, at in ended
        ]
        failpoint("items.before_flush")
        with bulk.atomic(Item):
            won = bulk.compare_and_set(Item, rows)
        for item, outcome, _ in ended:
            if item.id in won:
                self.taken.completed += outcome.status == ItemStatus.COMPLETED
                self.taken.failed += outcome.status != ItemStatus.COMPLETED
        if len(won) < len(ended):
            self.taken.lost = True

    def _give_back(self) -> bool:
        """Not all was done. Of a session that is paused, or a worker that stops, another goes on; else it is cancelled."""
        now = clock.now()
        chunk = self.taken.chunk
        session = store.light(chunk.session_key)
        end = ChunkStatus.WAITING if session.status in (SessionStatus.PAUSED, SessionStatus.RUNNING) else ChunkStatus.CANCELLED
        mine = Item.objects.filter(chunk_id=chunk.pk, status=ItemStatus.RUNNING.value, fence=chunk.fence)
        if end == ChunkStatus.WAITING:
            mine.update(status=ItemStatus.PENDING.value)
        if _move(chunk, end, now=now) and end == ChunkStatus.WAITING and session.status == SessionStatus.RUNNING:
            Chunk.objects.filter(pk=chunk.pk, status=ChunkStatus.WAITING.value).update(status=ChunkStatus.SENT.value)
            canvas.send_again([chunk.pk])
        return False
