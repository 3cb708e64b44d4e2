"""Items that agents do: each is an ordinary task, submitted through the ordinary intake, under an id derived from the item.

No worker waits for them. When a task ends, news of it (`heard`) is a hint to look; what a lost hint left is found by upkeep.
A chunk whose last item has ended tells its chord, or, without one, has the step looked at.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from apps.core import background, bulk, clock, ids
from apps.core.errors import Invalid, PlatformError
from apps.core.failpoint import failpoint
from apps.tasks.entries import TaskEntry
from apps.tasks.events import TasksMoved
from apps.tasks.intake import OtherBody, TaskIntake
from apps.tasks.models import Task
from apps.tasks.parser import InitialJobParser
from apps.tasks.states import TERMINAL, TaskStatus
from apps.workflows.document.spec import TaskSpec
from apps.workflows.engine import births, executing, store
from apps.workflows.engine.endings import stop_tasks
from apps.workflows.engine.running import Claim
from apps.workflows.models import Chunk, ChunkStatus, Item, Session, Step
from apps.workflows.states import ITEM_OPEN, ItemStatus
from jobplatform.queues import Work

log = logging.getLogger(__name__)

PREFIX = "wf-"
"""Of the ids of items' tasks. Anybody may use it: an item knows the key of its task."""
PARCEL = "workflow"
OPEN = [status.value for status in ITEM_OPEN]
AT_ONCE = 500
GOAL_LENGTH = 100_000


def task_id_of(item: Item) -> str:
    """One per attempt: derived, so that submitting twice makes one task."""
    return PREFIX + hashlib.blake2b(f"{item.id}:{item.attempt}".encode(), digest_size=16).hexdigest()


# ---- going ------------------------------------------------------------------------------------------------


def send(taken: Claim, task: TaskSpec, saved: dict[str, Any] | None, *, now: datetime) -> set[str]:
    """Submit the items of a claimed chunk as tasks; the chunk is away until the last of them ends. Answers the chunk's id
    when all of them have ended already (every one refused)."""
    chunk = taken.chunk
    fields = {"status": ChunkStatus.AWAY.value, "lease_until": None, "updated_at": now}
    if saved is not None:
        fields["request"] = saved
    if not Chunk.objects.filter(pk=chunk.pk, status=ChunkStatus.RUNNING.value, fence=chunk.fence).update(**fields):
        return set()
    failpoint("away.recorded")
    return submit(chunk.pk, taken.session, taken.step, task, now=now) | settle([chunk.pk], now=now)


def submit(chunk_id: str, session: Session, step: Step, task: TaskSpec, *, now: datetime) -> set[str]:
    """The items of a chunk that are not out yet. May be done again: the derived id makes of two tries one task. Answers the
    chunk when all of it has ended and no chord speaks for it."""
    items = list(Item.objects.filter(chunk_id=chunk_id, status=ItemStatus.PENDING.value).order_by("index").defer("result"))
    if not items:
        return set()
    principal = births.principal_of(session)
    entries: list[TaskEntry] = []
    going: list[Item] = []
    ended: list[bulk.Change] = []
    for item in items:
        try:
            entries.append(_entry(item, session, step, task, now))
            going.append(item)
        except Invalid as error:
            ended.append(_ended(item, ItemStatus.FAILED, None, executing.clip(str(error)), now))
    # First the key, then the task: whoever hears of its end finds the item.
    keys = {item.id: ids.task_key(session.org_id, entry.task_id) for item, entry in zip(going, entries, strict=True)}
    won = bulk.compare_and_set(
        Item,
        [
            bulk.Change(
                pk=item.id, guards={"status": item.status}, fields={"task_key": keys[item.id], "status": "running", "started_at": now}
            )
            for item in going
        ],
    )
    # An item that was cancelled since it was read becomes no task.
    entries = [entry for item, entry in zip(going, entries, strict=True) if item.id in won]
    going = [item for item in going if item.id in won]
    failpoint("away.keys_written")
    verdicts = TaskIntake().submit_many(entries, principal, now=now) if entries else []
    failpoint("away.submitted")
    over: list[str] = []
    for item, verdict in zip(going, verdicts, strict=True):
        item.status = ItemStatus.RUNNING.value
        if verdict.status is not None or verdict.error is None or isinstance(verdict.error, OtherBody):
            if verdict.status is not None and verdict.status in TERMINAL:
                over.append(keys[item.id])  # refused by a policy, or done since an earlier try: the task itself says what came of it
        elif _later(verdict.error):
            # Over a limit of the org: upkeep submits it again.
            Item.objects.filter(pk=item.id, status=ItemStatus.RUNNING.value).update(status=ItemStatus.PENDING.value)
        else:
            ended.append(_ended(item, ItemStatus.FAILED, None, executing.clip(str(verdict.error)), now))
    bulk.compare_and_set(Item, ended)
    # Nor may one that was cancelled before its task was there leave an agent at work.
    cancelled = Item.objects.filter(pk__in=[item.id for item in going], status=ItemStatus.CANCELLED.value).values_list("pk", flat=True)
    stop_tasks([keys[pk] for pk in cancelled], "it is no longer wanted", now=now)
    return ended_tasks(over, now=now)


def _later(error: PlatformError) -> bool:
    return error.retry_helps or error.status == 429


def _entry(item: Item, session: Session, step: Step, task: TaskSpec, now: datetime) -> TaskEntry:
    """The item as a TaskEntry: what to do is its goal, its name the intent, all else its payload."""
    given = item.input
    message = given.get("message", task.message_template) or item.name
    told = {
        PARCEL: {"session_id": session.session_id, "path": step.path, "index": item.index, "item": item.id, "attempt": item.attempt},
        "agent_class": task.agent_class, "tools": list(task.tools),
        "shared_instructions": given.get("shared_instructions", task.shared_instructions), "files_folder": task.files_folder,
        "result_keys": list(task.result_keys), "input": given.get("input", dict(task.input)), "values": given.get("values") or {},
        **({"result_schema": task.result_schema} if task.result_schema is not None else {}),
    }  # fmt: skip
    data: dict[str, Any] = {
        "task_id": task_id_of(item), "task_goal": message[:GOAL_LENGTH], "task_intent": item.name or step.path,
        "task_priority_value": session.priority,
        "submitter_subject_id": (session.submitter or {}).get("submitter") or f"{session.org_id}:session",
        "task_submission_ts": clock.iso(item.started_at or session.created_at),
        "task_job_submission_data": {name: value for name, value in told.items() if value not in ("", [], {}, None)},
    }  # fmt: skip
    if session.job_space_id:
        data["task_job_submission_data"]["job_space_id"] = session.job_space_id
    if task.timeout_s:
        data["task_completion_timeline"] = {"due": clock.iso(now + timedelta(seconds=task.timeout_s))}
    entry = InitialJobParser().parse(data, kind="task")
    # Two tries differ in their times only: they are the same task.
    entry = replace(entry, body_hash=hashlib.sha256(f"{item.id}:{item.attempt}".encode()).hexdigest())
    return replace(entry, assigned_subject_ids=(task.agent,)) if task.agent else entry


def _ended(item: Item, status: ItemStatus, result: Any, reason: str, now: datetime) -> bulk.Change:
    fields = {"status": status.value, "result": result, "reason": reason, "finished_at": now}
    return bulk.Change(pk=item.id, guards={"status": item.status, "attempt": item.attempt}, fields=fields)


# ---- coming back ------------------------------------------------------------------------------------------


def heard(news: TasksMoved) -> None:
    """Of every move of every task: those that end and go by our prefix are worth a look."""
    keys = [move.key for move in news.moves if move.new in TERMINAL and move.task_id.startswith(PREFIX)]
    for start in range(0, len(keys), AT_ONCE):
        background.send(Work.ITEMS_ENDED, task_keys=keys[start : start + AT_ONCE])


def ended_tasks(task_keys: Collection[str], *, now: datetime) -> set[str]:
    """Tasks that may have ended: their items end too. Answers the chunks of which that was the last."""
    tasks = Task.objects.filter(pk__in=list(task_keys), status__in=[status.value for status in TERMINAL])
    named: dict[str, Task] = {}
    for task in tasks.only("key", "status", "reason", "result", "entry"):
        item_id = ((task.entry.get("task_job_submission_data") or {}).get(PARCEL) or {}).get("item")
        if isinstance(item_id, str):
            named[item_id] = task
    items = Item.objects.filter(pk__in=list(named), status__in=OPEN).defer("input", "result")
    # An item knows its task: anybody might have written its id into another one.
    mine = [item for item in items if item.task_key == named[item.id].key]
    return _apply([(item, named[item.id]) for item in mine], now=now)


def _apply(pairs: Sequence[tuple[Item, Task]], *, now: datetime) -> set[str]:
    changes = []
    tasks = _specs(item for item, _ in pairs)
    for item, task in pairs:
        spec = tasks.get(item.step_run)
        if spec is not None:
            changes.append(_ended(item, *_outcome(task, spec), now))
    if not changes:
        return set()
    failpoint("away.before_ends")
    won = bulk.compare_and_set(Item, changes)
    failpoint("away.ends_written")
    return settle({item.chunk_id for item, _ in pairs if item.id in won}, now=now)


def _outcome(task: Task, spec: TaskSpec) -> tuple[ItemStatus, Any, str]:
    if task.status == TaskStatus.COMPLETED:
        judged = executing.judge(task.result, spec)
        return judged.status, judged.result, judged.reason
    reason = executing.clip(task.reason or f"its task was {task.status}")
    if task.status == TaskStatus.EXPIRED:
        return ItemStatus.TIMED_OUT, None, reason
    return (ItemStatus.CANCELLED if task.status == TaskStatus.CANCELLED else ItemStatus.FAILED), None, reason


def _specs(items: Iterable[Item]) -> dict[str, TaskSpec]:
    found: dict[str, TaskSpec] = {}
    for item in items:
        if item.step_run not in found:
            session = store.light(item.session_key)
            path = item.step_run.removeprefix(f"{session.key}:").rpartition("#")[0]
            task = store.spec_of(session).task_of(path)
            if task is not None:
                found[item.step_run] = task
    return found


def settle(chunk_ids: Collection[str], *, now: datetime) -> set[str]:
    """Chunks of which every item has ended are done; answers those that no chord wakes anybody for."""
    wanted = list(chunk_ids)
    if not wanted:
        return set()
    busy = set(Item.objects.filter(chunk_id__in=wanted, status__in=OPEN).order_by().values_list("chunk_id", flat=True).distinct())
    unheard = set()
    for chunk in Chunk.objects.filter(pk__in=[one for one in wanted if one not in busy], status=ChunkStatus.AWAY.value):
        if not Chunk.objects.filter(pk=chunk.pk, status=ChunkStatus.AWAY.value).update(status=ChunkStatus.DONE.value, updated_at=now):
            continue
        failpoint("away.chunk_done")
        if chunk.request is None or not background.part_done(chunk.request):
            unheard.add(chunk.pk)
    return unheard
