"""How a step ends, and a session: outcomes in item order, one write of the context, the final result, nothing left in Redis."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Count

from apps.core import bulk
from apps.core.failpoint import failpoint
from apps.tasks.models import Task
from apps.tasks.states import TERMINAL, TaskStatus
from apps.tasks.taking_back import Ending, end_many
from apps.workflows.context.context import ContextStore
from apps.workflows.document.spec import NodeSpec, SessionSpec
from apps.workflows.engine import canvas, store, telling
from apps.workflows.engine.executing import clip
from apps.workflows.expansion import combine
from apps.workflows.expansion.combine import Ended
from apps.workflows.models import Chunk, ChunkStatus, Item, Session, SessionEvent, Step
from apps.workflows.planning import plan
from apps.workflows.planning.plan import Counts
from apps.workflows.states import ITEM_OPEN, STEP_FAILED, ItemStatus, SessionStatus, StepStatus

log = logging.getLogger(__name__)

MISSING_SHOWN = 100
OPEN = [status.value for status in ITEM_OPEN]
CHUNK_OPEN = [ChunkStatus.WAITING.value, ChunkStatus.SENT.value, ChunkStatus.RUNNING.value, ChunkStatus.AWAY.value]
ACTOR = "workflow"
READ = 2000


@dataclass(frozen=True, kw_only=True)
class End:
    status: StepStatus
    because: str
    fields: dict[str, Any] = field(default_factory=dict)


# ---- a step -----------------------------------------------------------------------------------------------


def end_of(session: Session, node: NodeSpec, row: Step, counted: Counts, move: plan.Finish, *, now: datetime) -> End:
    """What the plan's Finish of a step comes to: a completed one writes its results to the context, once."""
    writer = f"{row.step_run}.{row.attempt}"
    fields: dict[str, Any] = {"partial": move.partial, "missing": [], "busy_until": None}
    if move.status == StepStatus.COMPLETED:
        values, problem = results_of(node, row, counted)
        if not problem:
            fields["missing"] = missing_of(row, counted) if counted.completed < counted.total else []
            fields["context_version"] = ContextStore().write_once(session.key, values, writer, now)
            return End(status=move.status, because=move.because, fields=fields)
        move = plan.Finish(path=move.path, because=clip(problem), status=StepStatus.FAILED)
    fields["missing"] = missing_of(row, counted)
    if move.status in STEP_FAILED and node.on_failure == "continue":
        nothing = dict.fromkeys(keys_of(node))
        fields["context_version"] = ContextStore().write_once(session.key, nothing, f"{writer}!", now)
    because = move.because
    if counted.total == 1 and move.status in STEP_FAILED and (told := _first_reason(row)):
        because = told
    return End(status=move.status, because=because, fields=fields)


def keys_of(node: NodeSpec) -> Sequence[str]:
    return (node.task.result_keys or (node.key,)) if node.task else ()


def results_of(node: NodeSpec, row: Step, counted: Counts) -> tuple[dict[str, Any], str]:
    """Context values of a step whose items have ended, and what is wrong with them."""
    task = node.task
    assert task is not None
    if not task.expanded:
        found = bulk.scan(Item, ["result"], order="index", step_run=row.step_run, status=ItemStatus.COMPLETED.value)
        return combine.plain(keys_of(node), next((result for (result,) in found), None)), ""
    config = task.expansion_config or {}
    try:
        values = combine.combine(
            config.get("output_format"), keys_of(node), outcomes(row),
            process_array_output=config.get("process_array_output", True), merge_strategy=config.get("merge_strategy", "list"),
        )  # fmt: skip
    except ValueError as error:
        return {}, str(error)
    return values, ""


def outcomes(row: Step) -> list[Ended]:
    """Every item of this run as it ended, in order."""
    names = ("index", "identifier", "status", "result", "reason", "started_at", "finished_at")
    return [Ended(*values) for values in bulk.scan(Item, names, order="index", step_run=row.step_run)]


def missing_of(row: Step, counted: Counts) -> list[dict[str, Any]]:
    """The first items without a result."""
    if not counted.total or counted.completed == counted.total:
        return []
    rows = Item.objects.filter(step_run=row.step_run).exclude(status=ItemStatus.COMPLETED.value).order_by("index")
    names = ("index", "identifier", "status", "reason")
    return [dict(zip(names, values, strict=True)) for values in rows.values_list(*names)[:MISSING_SHOWN]]


def _first_reason(row: Step) -> str:
    found = Item.objects.filter(step_run=row.step_run).exclude(reason="").order_by("index").values_list("reason", flat=True)[:1]
    return found[0] if found else ""


def cancel_items(row: Step, because: str, *, now: datetime) -> bool:
    """End every open item of a step as cancelled; what runs is told to stop. True when there was anything to do."""
    Chunk.objects.filter(step_run=row.step_run, status__in=CHUNK_OPEN).update(
        status=ChunkStatus.CANCELLED.value, lease_until=None, updated_at=now
    )
    mine = Item.objects.filter(step_run=row.step_run, status__in=OPEN)
    away = list(mine.exclude(task_key="").values_list("task_key", flat=True))
    reason = clip(because or "its step was ended")
    count = mine.update(status=ItemStatus.CANCELLED.value, reason=reason, finished_at=now)
    failpoint("cancel.items")
    stop_tasks(away, reason, now=now)
    counted = store.counts([row.step_run])[row.step_run]
    columns = store.count_columns(counted)
    stale = any(getattr(row, name) != value for name, value in columns.items())
    Step.objects.filter(pk=row.id, run=row.run).update(**columns, updated_at=now)
    return bool(count) or stale


def stop_tasks(keys: Iterable[str], reason: str, *, now: datetime) -> None:
    """The agents' tasks of items that are no longer wanted."""
    wanted = list(keys)
    for start in range(0, len(wanted), 500):
        tasks = Task.objects.filter(pk__in=wanted[start : start + 500]).exclude(status__in=[status.value for status in TERMINAL])
        endings = [Ending(task=task, end=TaskStatus.CANCELLED, reason=reason) for task in tasks]
        if endings:
            end_many(endings, actor=ACTOR, now=now)


# ---- a session --------------------------------------------------------------------------------------------


def publish(session: Session, spec: SessionSpec, *, now: datetime) -> bool:
    """Tell the final (or partial) result, once, and clean up. False when somebody else does."""
    counted = tally(session.key)
    missing = missing_in(session.key)
    canvas.forget(session.key)
    undo = spec.compensate and session.status in (SessionStatus.FAILED, SessionStatus.TIMED_OUT)
    fields = {"published": True, "counts": counted, "missing": missing, "updated_at": now, "tell_at": telling.due(session.org_id, now=now)}
    if undo:
        fields["compensation"] = "running"
    won = Session.objects.filter(pk=session.key, run=session.run, published=False, status=session.status).update(**fields)
    if not won:
        return False
    for name, value in fields.items():
        setattr(session, name, value)
    failpoint("session.published")
    telling.tell(session, now=now)
    if undo:
        canvas.wake(session.key)
    return True


def tally(session_key: str) -> dict[str, dict[str, int]]:
    """Steps and items by status."""
    return tallies([session_key])[session_key]


def tallies(session_keys: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    """The same of many, in as many reads. Of steps that have ended the items are in their columns; the others' are counted."""
    steps: dict[str, Counter[str]] = {key: Counter() for key in session_keys}
    items: dict[str, Counter[str]] = {key: Counter() for key in session_keys}
    rows = Step.objects.filter(session_key__in=steps, kind=Step.Kind.STEP.value).order_by()
    for key, status, count in rows.values_list("session_key", "status").annotate(count=Count("pk")):
        steps[key][status] = count
    names = ("total", "completed", "failed", "cancelled", "skipped", "timed_out")
    going = (StepStatus.RUNNING.value, StepStatus.EXPANDING.value, StepStatus.RETRYING.value)
    live = {f"{pk}#{run}": key for key, pk, run in rows.filter(status__in=going).values_list("session_key", "id", "run")}
    ended = rows.exclude(status__in=going).filter(total__gt=0)
    for key, *values in ended.values_list("session_key", *names).iterator(chunk_size=READ):
        items[key].update(dict(zip(names, values, strict=True)))
    for step_run, counted in store.counts(list(live)).items() if live else ():
        items[live[step_run]].update({name: getattr(counted, name) for name in (*names, "pending", "running")})
    return {
        key: {
            "steps": {"total": sum(steps[key].values()), **steps[key]},
            "items": {"total": items[key].pop("total", 0), **{name: value for name, value in items[key].items() if value}},
        }
        for key in session_keys
    }


def missing_in(session_key: str) -> list[dict[str, Any]]:
    """What the result lacks: steps that did not complete, and items of those that did."""
    found = []
    rows = Step.objects.filter(session_key=session_key, kind=Step.Kind.STEP.value).exclude(
        status=StepStatus.COMPLETED.value, partial=False
    )
    names = ("path", "status", "reason", "missing", "total", "completed")
    for path, status, reason, missing, total, completed in rows.order_by("position").values_list(*names)[:1000]:
        if status == StepStatus.COMPLETED.value:
            reason = reason or f"{total - completed} of {total} items have no result"
        found.append(
            {
                "path": path, "status": status, "reason": reason or status, "items": [one["index"] for one in missing or []],
                "count": max(total - completed, 0),
            }
        )  # fmt: skip
    return found


GONE = 0
"""`run` of a session that is being deleted: nobody finds it any more or takes it up again; whoever dies over it is followed by
the next try."""


def drop(session: Session) -> int:
    """Every row of an ended session, its context, and its keys in Redis, some rows at a time; how many rows. 0: somebody took it
    up again first."""
    if session.run != GONE:
        guards = {"status": session.status, "run": session.run, "published": True}
        if not bulk.compare_and_set(Session, [bulk.Change(pk=session.key, guards=guards, fields={"run": GONE, "tell_at": None})]):
            return 0
    canvas.forget(session.key)
    runs = [f"{pk}#{number}" for pk, run in _runs(session.key) for number in range(1, run + 1)]
    gone = sum(bulk.remove_in_parts(Item, step_run=runs[start : start + 200]) for start in range(0, len(runs), 200))
    # Steps after items: they name them. The session last: it is how whoever comes next finds the rest.
    gone += sum(bulk.remove_in_parts(model, session_key=session.key) for model in (Chunk, SessionEvent, Step))
    return gone + ContextStore().purge(session.key) + bulk.remove(Session, pk=session.key, run=GONE)


def _runs(session_key: str) -> list[tuple[str, int]]:
    return list(Step.objects.filter(session_key=session_key).values_list("id", "run"))
