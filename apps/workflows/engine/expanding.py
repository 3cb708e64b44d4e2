"""Making the items of a step: rows with derived ids, cut into chunks.

Whatever was half written by a process that died is completed: the same document and context give the same items in the
same order, and a row that is there already is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apps.core import bulk
from apps.core.failpoint import failpoint
from apps.workflows import expansion
from apps.workflows.context.context import ContextStore
from apps.workflows.document.spec import LIMITS, NodeSpec, SessionSpec, TaskSpec
from apps.workflows.engine import store
from apps.workflows.engine.canvas import Sending, chunk_id
from apps.workflows.engine.store import item_id
from apps.workflows.expansion import ExpandedItem, templates
from apps.workflows.models import Chunk, ChunkStatus, Item, Session, Step
from apps.workflows.states import ITEM_FAILED, ItemStatus

CHUNKS_AIMED_AT = 16
CHUNK_MAX = 500
BATCH = 1000
"""Rows in one write."""
SAID = ("message", "shared_instructions")
"""Templates that become text, whatever they name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The items of one step before they are written."""

    row: Step
    node: NodeSpec
    items: Sequence[ExpandedItem]
    render: templates.Template | None
    """None: nothing of the task depends on values."""
    layers: tuple[Mapping[str, Any], ...]
    limited: bool
    budget: templates.StepBudget = field(default_factory=templates.StepBudget)

    @property
    def total(self) -> int:
        return len(self.items)


def prepare(session: Session, spec: SessionSpec, rows: Sequence[Step], task_of: Mapping[str, TaskSpec]) -> dict[str, Prepared | Exception]:
    """By path: what each step becomes, or why it cannot. One read of the context for all."""
    plans = {row.path: _Plan.of(task_of[row.path], row) for row in rows}
    wanted = {name for plan in plans.values() if not isinstance(plan, Exception) for name in plan.wanted}
    context = known(session, spec, ContextStore().read(session.key, wanted) if wanted else {}, wanted)
    found: dict[str, Prepared | Exception] = {}
    for row in rows:
        plan = plans[row.path]
        node = spec.nodes.get(row.path) or NodeSpec(path=row.path, key=row.path, kind="step", parent=row.parent, position=row.position)
        if isinstance(plan, Exception):
            found[row.path] = plan
            continue
        try:
            found[row.path] = plan.carry_out(row, node, context, limited=row.path in spec.nodes and bool(spec.scopes(row.path)))
        except (expansion.BadExpansion, templates.TemplateError) as error:
            found[row.path] = error
    return found


def known(session: Session, spec: SessionSpec, context: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
    """Values as steps see them: what a step should have written and did not is null. Who waits for it optionally, or goes on
    after its failure, finds that; everybody else waits for it to be there."""
    gone = set(store.outdated(session, spec, context))
    there = {key: value for key, value in context.items() if key not in gone}
    return {**dict.fromkeys(key for key in wanted if key in spec.writers), **there}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    task: TaskSpec
    template: templates.Template
    wanted: frozenset[str]

    @classmethod
    def of(cls, task: TaskSpec, row: Step) -> _Plan | Exception:
        given = {**task.input, **(row.override or {})}
        parts = {"message": task.message_template, "input": given, "shared_instructions": task.shared_instructions}
        try:
            template = templates.compile(parts, where=row.path)
        except templates.TemplateError as error:
            return error
        wanted = {name for one in template.placeholders for name in (one.path[0], one.name)}
        if task.expansion_config is not None:
            wanted |= expansion.reads(task.expansion_config, task.expansion_data)
        return cls(task=task, template=template, wanted=frozenset(wanted))

    def carry_out(self, row: Step, node: NodeSpec, context: Mapping[str, Any], *, limited: bool) -> Prepared:
        data = {**self.task.data, **(row.override or {})}
        if self.task.expansion_config is None:
            items: Sequence[ExpandedItem] = (ExpandedItem(0, "", "", {}),)
        else:
            document = {"input": {**self.task.input, **(row.override or {})}, **data}
            made = expansion.expand(self.task.expansion_config, document, context, limit=LIMITS.items, run_starlark=_run_starlark)
            items = made.items
        render = self.template if self.template.placeholders or row.override else None
        return Prepared(row=row, node=node, items=items, render=render, layers=(data, context), limited=limited)


def _run_starlark(script: str, data: Any) -> Any:
    from apps.dsl import expanding as starlark  # a sandbox is loaded only by those who ask for one

    return starlark.run(script, data)


def item_rows(one: Prepared, size: int, start: int = 0, stop: int | None = None) -> Iterator[Item]:
    """Raises TemplateError for values that a template cannot take."""
    row, name = one.row, one.row.name or one.node.key
    step_run = row.step_run
    for item in one.items[start:stop]:
        given: dict[str, Any] = {"values": item.values}
        if one.render is not None:
            given |= one.render.render(templates.Layered(item.values, *one.layers), one.budget)
            # A template that is one placeholder keeps what it names; what is said to somebody is text all the same.
            given |= {name: templates.text(given[name]) for name in SAID if type(given[name]) is not str}
        yield bulk.new(
            Item, id=item_id(step_run, item.index), step_run=step_run, chunk_id=chunk_id(step_run, 1, item.index // size),
            session_key=row.session_key, org_id=row.org_id, index=item.index, identifier=item.identifier,
            name=(f"{name} {item.name_suffix}" if item.name_suffix else name)[:300], input=given, status=ItemStatus.PENDING.value,
        )  # fmt: skip


def chunk_rows(row: Step, executor: str, sizes: Iterable[int], *, first: int, limited: bool, now: datetime) -> list[Chunk]:
    status = ChunkStatus.WAITING if limited else ChunkStatus.SENT
    return [
        bulk.new(
            Chunk, id=chunk_id(row.step_run, row.attempt, number), session_key=row.session_key, org_id=row.org_id, step_id=row.id,
            step_run=row.step_run, number=number, size=size, executor=executor, status=status.value, updated_at=now,
        )  # fmt: skip
        for number, size in enumerate(sizes, start=first)
    ]


def chunk_size(task: TaskSpec, total: int, *, limit: int | None) -> int:
    """As the document says; else so that there are some chunks for every worker and not too many. Of agents under a limit:
    as few as go one after the other."""
    if task.chunk_size:
        size = task.chunk_size
    elif task.executor == "agent":
        size = 100 if limit is None else 1
    else:
        size = -(-total // CHUNKS_AIMED_AT)
    if task.executor == "agent" and limit is not None:
        size = min(size, limit)
    return max(1, min(size, CHUNK_MAX))


def sizes_of(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def first_attempt(one: Prepared, task: TaskSpec, limit: int | None, *, now: datetime) -> Iterator[tuple[list[Any], Sending | None]]:
    """Rows to write, and what may be sent once they are, a batch at a time. Batches end where chunks do."""
    size = chunk_size(task, one.total, limit=limit)
    batch = max(1, BATCH // size) * size
    for start in range(0, one.total, batch):
        stop = min(start + batch, one.total)
        chunks = chunk_rows(
            one.row, task.executor, sizes_of(stop - start, size), first=start // size, limited=one.limited, now=now
        )  # fmt: skip
        rows = [*item_rows(one, size, start, stop), *chunks]
        sending = Sending(
            session_key=one.row.session_key, path=one.row.path, step_run=one.row.step_run, attempt=one.row.attempt,
            first=start // size, count=len(chunks),
        )  # fmt: skip
        yield rows, None if one.limited else sending
        failpoint("expand.batch")


def next_attempt(row: Step, task: TaskSpec, limit: int | None, *, limited: bool, now: datetime) -> list[Sending]:
    """The items of a step that did not complete go back to pending, in chunks of this attempt."""
    done = Chunk.objects.filter(step_run=row.step_run, id__startswith=f"{row.step_run}.{row.attempt}/").count()
    failed = [status.value for status in (*ITEM_FAILED, ItemStatus.CANCELLED)]
    # Chunks may be claimed before all are written: what has failed in this attempt already is not taken up once more in it.
    rows = Item.objects.filter(step_run=row.step_run, status__in=failed, attempt__lt=row.attempt).order_by("index")
    items = list(rows.values_list("id", "status", "attempt"))
    size = chunk_size(task, len(items), limit=limit)
    number = done
    for start in range(0, len(items), size):
        part = items[start : start + size]
        chunks = chunk_rows(row, task.executor, [len(part)], first=number, limited=limited, now=now)
        fields = {"status": ItemStatus.PENDING.value, "attempt": row.attempt, "chunk_id": chunks[0].id, "fence": 0, "task_key": ""}
        with bulk.atomic(Item):
            # The chunk first: without transactions an item must not name a chunk that never was.
            bulk.insert_missing(chunks)
            bulk.compare_and_set(
                Item, [bulk.Change(pk=pk, guards={"status": status, "attempt": attempt}, fields=fields) for pk, status, attempt in part]
            )
        number += 1
        failpoint("retry.batch")
    if limited or not number:
        return []
    about = {"session_key": row.session_key, "path": row.path, "step_run": row.step_run, "attempt": row.attempt}
    return [Sending(first=0, count=number, **about)]
