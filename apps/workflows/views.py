"""What the outside sees of sessions: plain JSON-ready objects, times as ISO texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Count

from apps.core import clock, ids
from apps.workflows.document.spec import UNDO, SessionSpec
from apps.workflows.engine import endings, store
from apps.workflows.models import Item, Session, SessionEvent, Step
from apps.workflows.planning.plan import Counts
from apps.workflows.states import ITEM_ENDED, SESSION_ENDED, STEP_ENDED, StepStatus

NAMES = ("total", "pending", "running", "completed", "failed", "skipped", "cancelled", "timed_out")


def session(row: Session, counted: Mapping[str, Mapping[str, int]] | None = None, *, last_event: str | None = None) -> dict[str, Any]:
    told = counted or (row.counts if _is_told(row) else endings.tally(row.key))
    if last_event is None:
        last_event = SessionEvent.objects.filter(session_key=row.key).order_by("-id").values_list("id", flat=True).first() or ""
    return {
        "session_id": row.session_id, "name": row.name, "description": row.description, "status": row.status, "reason": row.reason,
        "partial": bool(row.partial), "run": row.run, "priority": row.priority, "job_space_id": row.job_space_id or None,
        "submitter": (row.submitter or {}).get("submitter", ""), "progress": progress(row, told), "steps": dict(told["steps"]),
        "items": dict(told["items"]), "compensation": row.compensation, "created_at": clock.iso(row.created_at),
        "started_at": clock.iso(row.started_at), "finished_at": clock.iso(row.finished_at), "deadline": clock.iso(row.deadline),
        "last_event": last_event,
    }  # fmt: skip


def sessions(rows: Sequence[Session], *, last_event: str | None = None) -> list[dict[str, Any]]:
    """A page of them: what they did is counted together."""
    told = endings.tallies([row.key for row in rows if not _is_told(row)])
    return [session(row, told.get(row.key), last_event=last_event) for row in rows]


def _is_told(row: Session) -> bool:
    """Its end was published, with what it came to."""
    return bool(row.published and row.counts)


def progress(row: Session, told: Mapping[str, Mapping[str, int]]) -> int:
    """Percent, by steps, and within those that run by items."""
    if row.status in SESSION_ENDED:
        return 100
    steps, items = told["steps"], told["items"]
    total = steps.get("total", 0)
    if not total:
        return 0
    ended = sum(steps.get(status.value, 0) for status in STEP_ENDED)
    known = items.get("total", 0)
    share = sum(items.get(status.value, 0) for status in ITEM_ENDED) / known if known else 0.0
    running = sum(steps.get(status.value, 0) for status in (StepStatus.RUNNING, StepStatus.EXPANDING, StepStatus.RETRYING))
    return min(99, int(100 * (ended + running * share) / total))


def step(
    row: Step, spec: SessionSpec, counted: Mapping[str, Counts], members: Mapping[str, Mapping[str, int]], missing: Sequence[Any]
) -> dict[str, Any]:
    node = spec.nodes.get(row.path)
    task = spec.task_of(row.path)
    config = (task.expansion_config or {}) if task else {}
    if row.kind == Step.Kind.GROUP:
        counts = {"total": sum(members.get(row.path, {}).values()), **members.get(row.path, {})}
    else:
        found = counted.get(row.step_run) or store.row_counts(row)
        counts = {name: getattr(found, name) for name in NAMES}
    return {
        "path": row.path, "key": node.key if node else row.path.rpartition(".")[2], "name": row.name, "kind": row.kind,
        "parent": row.parent, "position": row.position, "status": row.status, "reason": row.reason, "partial": bool(row.partial),
        "executor": task.executor if task else "", "agent_class": task.agent_class if task else "", "run": row.run,
        "attempt": row.attempt, "counts": counts, "dependencies": list(node.needs) if node else [],
        "optional_dependencies": list(node.wants) if node else [], "on_failure": node.on_failure if node else "",
        "result_keys": list(endings.keys_of(node)) if node and task and not row.path.endswith(UNDO) else [],
        "expansion": config.get("type", "array") if config else "", "output_format": config.get("output_format", "merge") if config else "",
        "missing": list(missing or []), "context_version": row.context_version or None, "retry_at": clock.iso(row.retry_at),
        "deadline": clock.iso(row.deadline), "started_at": clock.iso(row.started_at), "finished_at": clock.iso(row.finished_at),
    }  # fmt: skip


def steps(session_row: Session, rows: Sequence[Step]) -> list[dict[str, Any]]:
    spec = store.spec_of(session_row)
    going = [row.step_run for row in rows if row.kind != Step.Kind.GROUP and row.status not in STEP_ENDED and row.attempt]
    counted = store.counts(going) if going else {}
    groups = [row.path for row in rows if row.kind == Step.Kind.GROUP]
    members: dict[str, dict[str, int]] = {}
    for start in range(0, len(groups), 500):
        found = Step.objects.filter(session_key=session_row.key, parent__in=groups[start : start + 500]).order_by()
        for parent, status, count in found.values_list("parent", "status").annotate(count=Count("pk")):
            members.setdefault(parent, {})[status] = count
    return [step(row, spec, counted, members, row.missing) for row in rows]


def item(row: Item, path: str, *, whole: bool = False) -> dict[str, Any]:
    shown = {
        "path": path, "index": row.index, "identifier": row.identifier, "name": row.name, "status": row.status, "attempt": row.attempt,
        "reason": row.reason, "task_id": ids.split_task_key(row.task_key)[1] if row.task_key else None,
        "started_at": clock.iso(row.started_at), "finished_at": clock.iso(row.finished_at),
    }  # fmt: skip
    return {**shown, "input": row.input, "result": row.result} if whole else shown


def event(row: SessionEvent) -> dict[str, Any]:
    return {
        "id": row.id, "path": row.path, "item": row.item, "old": row.old, "new": row.new, "reason": row.reason, "actor": row.actor,
        "run": row.run, "at": clock.iso(row.at),
    }  # fmt: skip
