"""What agents say, applied: the one door for reports.

A report counts when it comes from the head agent of the task's current attempt. Everything else is recorded with why it
did not count, and changes nothing: late reports from a replaced agent, second results, reports on other agents' tasks.
Applying a batch twice is harmless: moves are compare-and-set, kept reports have derived ids.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from apps.agents.agent_queue import AgentQueueClient
from apps.agents.holds import Holds
from apps.core import bulk, clock, events, ids, observe, redis, tracing
from apps.messaging.envelope import AgentReport, ReportKind
from apps.orgs.config_store import OrgConfig, OrgConfigProvider
from apps.tasks import people
from apps.tasks.entries import verifier_of
from apps.tasks.events import TaskProgressed, TasksProgressed
from apps.tasks.executor import back_to_queue, requeue, wake
from apps.tasks.models import Assignment, Report, Task
from apps.tasks.queue import PriorityQueue
from apps.tasks.states import IN_FLIGHT, TERMINAL, Cause, TaskStatus
from apps.tasks.store import Move, TaskStore

log = logging.getLogger(__name__)

APPLIED, STALE, DUPLICATE, REFUSED = "applied", "stale", "duplicate", "refused"
ENDS = frozenset({ReportKind.COMPLETED, ReportKind.FAILED, ReportKind.DECLINED})
KEPT = frozenset({ReportKind.PROGRESS, ReportKind.LOG})
"""Kinds worth a row of their own even when they count; the others leave a transition."""
SAID = ("result", "price", "error", "retryable", "reason", "percent", "message", "level")
MAX_BACKOFF_SECONDS = 300


class ReportDesk:
    def __init__(
        self,
        *,
        store: TaskStore | None = None,
        queue: PriorityQueue | None = None,
        holds: Holds | None = None,
        agent_queue: AgentQueueClient | None = None,
        configs: OrgConfigProvider | None = None,
    ) -> None:
        self.store = store or TaskStore()
        self.queue = queue or PriorityQueue()
        self.holds = holds or Holds()
        self.agent_queue = agent_queue or AgentQueueClient()
        self.configs = configs or OrgConfigProvider()

    def apply(self, reports: Sequence[AgentReport], *, now: datetime) -> None:
        """Apply reports in order; one round per report of the same task, so a batch of distinct tasks is one round."""
        waiting: dict[str, deque[AgentReport]] = defaultdict(deque)
        for report in reports:
            waiting[ids.task_key(report.org_id, report.task_id)].append(report)
        configs = once(self.configs.of)
        ended = False
        verified = any(configs(report.org_id).verification_required for report in reports)  # only then the entry is read
        while waiting:
            tasks = self.store.load_many(waiting, entry=verified)
            self._catch_up(tasks.values(), waiting, now)
            round_ = [(tasks.get(key), queue[0]) for key, queue in waiting.items()]
            for key, lost in self._round(round_, configs, now).items():
                # Somebody moved the task between our read and our write: look again with the same report.
                if not lost:
                    waiting[key].popleft()
                    if not waiting[key]:
                        del waiting[key]
            ended = ended or any(task.status not in IN_FLIGHT for task in tasks.values())
        if ended:
            wake(now=now)

    def _catch_up(self, tasks: Iterable[Task], waiting: dict[str, deque[AgentReport]], now: datetime) -> None:
        """An agent's report proves its delivery: write `dispatched` where the executor has not come to it yet."""
        behind = [t for t in tasks if t.status == TaskStatus.ASSIGNED and _is_current(t, waiting[t.key][0])]
        moves = [
            Move(task=t, end=TaskStatus.DISPATCHED, reason=f"delivered to {t.head_agent_subject_id}", actor="listener") for t in behind
        ]
        self.store.move_many(moves, now=now)

    def _round(
        self, pairs: Sequence[tuple[Task | None, AgentReport]], configs: Callable[[str], OrgConfig], now: datetime
    ) -> dict[str, bool]:
        """One report for each of several tasks; answers which of them have to be tried again."""
        lost: dict[str, bool] = {}
        moves: dict[str, Move] = {}
        rows: list[Report] = []
        steps: list[TaskProgressed] = []
        outdated: list[tuple[Task, AgentReport]] = []
        for task, report in pairs:
            key = ids.task_key(report.org_id, report.task_id)
            lost[key] = False
            if task is None:
                log.warning("report.unknown_task", extra={"task": key, "agent": report.agent, "kind": report.kind})
            elif not _is_current(task, report):
                outdated.append((task, report))
            elif task.status == TaskStatus.ASSIGNED:
                lost[key] = True  # the executor wrote `dispatched` just before we could
            elif task.status in TERMINAL or task.status == TaskStatus.AWAITING_VERIFICATION:
                rows.append(_row(task, report, DUPLICATE, now))
            else:
                if report.kind is ReportKind.PROGRESS:
                    steps.append(_step(task, report, now))
                if report.kind in KEPT:
                    rows.append(_row(task, report, APPLIED, now))
                if move := self._move(task, report, configs, now):
                    moves[key] = move
        self._go_on([(task, report) for task, report in pairs if task is not None and _is_current(task, report)], configs, now)
        attempts = {key: move.task.attempt for key, move in moves.items()}
        won = self.store.move_many(list(moves.values()), now=now)
        for key in moves:
            lost[key] = key not in won
        rows += self._outdated(outdated, now)
        _count(pairs, rows, lost)
        bulk.insert_missing([row for row in rows if not lost[row.task_key]])
        self._progress([step for step in steps if not lost[step.key]], {task.key: task for task, _ in pairs if task})
        self._let_go([moves[key].task for key in won], attempts, now)
        _trace(pairs, won, now)
        return lost

    def _go_on(self, pairs: Sequence[tuple[Task, AgentReport]], configs: Callable[[str], OrgConfig], now: datetime) -> None:
        """Whoever reports is alive, so its lease goes on, and before its task is seen to run: a delivery may have waited in the
        agent's hands until its lease was over, and the first heartbeat that names it comes seconds after it began."""
        leases: dict[float, list[str]] = defaultdict(list)
        for task, report in pairs:
            if task.status in IN_FLIGHT and report.kind not in ENDS:
                config = configs(task.org_id)
                lease = people.lease_seconds(config) if task.held_by_person else config.lease_seconds
                leases[lease].append(ids.assignment_id(task.key, task.attempt))
        try:
            for lease, names in leases.items():
                self.holds.extend(names, now=now, lease_seconds=lease)
        except redis.RedisDown as error:
            redis.log_away(error)  # its heartbeats do the same when it is back

    def _move(self, task: Task, report: AgentReport, configs: Callable[[str], OrgConfig], now: datetime) -> Move | None:
        actor = f"{'person' if task.held_by_person else 'agent'}:{report.agent}"
        match report.kind:
            case ReportKind.COMPLETED:
                config = configs(task.org_id)
                rows = () if report.price is None else (_row(task, report, APPLIED, now),)  # else its transition tells all
                fields: dict[str, Any] = {"result": report.result, "progress": 100.0, "started_at": _started(task, report, now)}
                if config.verification_required and (verifier := verifier_of(task.entry)):
                    reason = f"the result waits for {verifier}"
                    fields |= people.ask_verifier(task, verifier, config, now)
                    return Move(task=task, end=TaskStatus.AWAITING_VERIFICATION, reason=reason, actor=actor, fields=fields, rows=rows)
                return Move(task=task, end=TaskStatus.COMPLETED, reason="the agent completed it", actor=actor, fields=fields, rows=rows)
            case ReportKind.FAILED:
                return self._failed(task, report, configs(task.org_id), actor, now)
            case ReportKind.DECLINED:
                why = report.reason or "no reason given"
                if task.attempt >= task.max_attempts:
                    reason = f"declined on the last of {task.max_attempts} attempts: {why}"
                    return Move(task=task, end=TaskStatus.FAILED, reason=reason, actor=actor, cause=Cause.DECLINED)
                reason = f"{report.agent} declined: {why}"
                return back_to_queue(task, reason=reason, actor=actor, not_before=None, cause=Cause.DECLINED, excluded="declined")
            case _ if task.status == TaskStatus.DISPATCHED:
                return Move(
                    task=task,
                    end=TaskStatus.RUNNING,
                    reason=f"{report.agent} started",
                    actor=actor,
                    fields={"started_at": _started(task, report, now)},
                )
        return None

    def _failed(self, task: Task, report: AgentReport, config: OrgConfig, actor: str, now: datetime) -> Move:
        why = report.error or "no reason given"
        if report.retryable and task.attempt < task.max_attempts:
            return back_to_queue(
                task,
                reason=f"attempt {task.attempt} failed: {why}",
                actor=actor,
                not_before=now + backoff(config, task.attempt),
                cause=Cause.FAILED,
                excluded="failed",
            )
        suffix = f" (attempt {task.attempt} of {task.max_attempts})" if report.retryable else ""
        return Move(
            task=task,
            end=TaskStatus.FAILED,
            reason=f"the agent failed: {why}{suffix}",
            actor=actor,
            cause=Cause.FAILED,
            fields={"started_at": _started(task, report, now)},
        )

    def _outdated(self, pairs: Sequence[tuple[Task, AgentReport]], now: datetime) -> list[Report]:
        """Reports that are not from the current attempt's agent: kept, and their senders told to stop."""
        if not pairs:
            return []
        names = [ids.assignment_id(task.key, report.attempt) for task, report in pairs]
        holders = dict(Assignment.objects.filter(pk__in=names).values_list("pk", "head_agent_subject_id"))
        rows = []
        for (task, report), name in zip(pairs, names, strict=True):
            was_theirs = holders.get(name) == report.agent
            rows.append(_row(task, report, STALE if was_theirs else REFUSED, now))
            log.warning(
                "report.stale" if was_theirs else "report.refused",
                extra={"task": task.key, "agent": report.agent, "attempt": report.attempt, "current": task.attempt, "kind": report.kind},
            )
            if was_theirs and report.kind not in ENDS:
                self.agent_queue.tell_to_stop(
                    task.org_id, report.agent, task_id=task.task_id, attempt=report.attempt, reason=f"attempt {report.attempt} is over"
                )
        return rows

    def _progress(self, steps: Sequence[TaskProgressed], tasks: dict[str, Task]) -> None:
        """The figure on the task; only while the attempt is the current one, and never backwards."""
        risen = [step for step in steps if step.percent >= tasks[step.key].progress]
        changes = [
            bulk.Change(
                pk=step.key,
                guards={"status": TaskStatus.RUNNING.value, "attempt": tasks[step.key].attempt},
                fields={"progress": step.percent, "progress_message": step.message},
            )
            for step in risen
        ]
        if bulk.compare_and_set(Task, changes):
            events.publish(TasksProgressed(steps=tuple(risen)))

    def _let_go(self, tasks: Sequence[Task], attempts: dict[str, int], now: datetime) -> None:
        """Drop the holds of attempts that are over, and queue again what goes on."""
        self.holds.drop(ids.assignment_id(t.key, attempts[t.key]) for t in tasks if t.status not in IN_FLIGHT)
        requeue([t for t in tasks if t.status == TaskStatus.QUEUED], now=now, queue=self.queue, holds=self.holds)


def _count(pairs: Sequence[tuple[Task | None, AgentReport]], rows: Sequence[Report], lost: dict[str, bool]) -> None:
    """A round holds one report a task. What left no row of its own was applied; what lost its race comes again."""
    outcomes = {row.task_key: row.outcome for row in rows}
    counts: Counter[tuple[str, str]] = Counter()
    for task, report in pairs:
        if task is None:
            counts[report.kind.value, "unknown_task"] += 1
        elif not lost[task.key]:
            counts[report.kind.value, outcomes.get(task.key, APPLIED)] += 1
    for labels, number in counts.items():
        observe.REPORTS.inc(*labels, by=number)


def _trace(pairs: Sequence[tuple[Task | None, AgentReport]], won: Collection[str], now: datetime) -> None:
    """The last leg of each traced task that moved: below the agent's span when it sent one of the same trace."""
    for task, report in pairs:
        if task is not None and task.trace and task.key in won:
            parent = report.trace if tracing.same_trace(report.trace, task.trace) else task.trace
            names = tracing.of_task(task, **{"jobplatform.attempt": report.attempt, "jobplatform.agent": report.agent})
            tracing.tell(f"report.{report.kind}", parent, start=now, end=clock.now(), attributes=names, consumer=True)


def backoff(config: OrgConfig, attempt: int) -> timedelta:
    """Doubles with each attempt, bounded."""
    return timedelta(seconds=min(config.retry_backoff_s * 2 ** (attempt - 1), MAX_BACKOFF_SECONDS))


def _is_current(task: Task, report: AgentReport) -> bool:
    return task.attempt == report.attempt and task.head_agent_subject_id == report.agent


def _started(task: Task, report: AgentReport, now: datetime) -> datetime:
    """When work began: what we know already, else what the agent says, but never before the delivery or after now."""
    if task.status == TaskStatus.RUNNING and task.started_at:
        return task.started_at
    earliest = task.dispatched_at or task.assigned_at or now
    return min(max(report.started_at or now, earliest), max(now, earliest))


def _row(task: Task, report: AgentReport, outcome: str, now: datetime) -> Report:
    name = ids.assignment_id(task.key, report.attempt)
    said = ("price",) if outcome == APPLIED and report.kind is ReportKind.COMPLETED else SAID  # that result is the task's
    # Not by equality: a price of 0 equals False.
    body = {name: value for name in said if (value := getattr(report, name)) is not None and value is not False and value != ""}
    # A refused sender's numbers are its own: its name keeps it from taking the id of a report that counts.
    return Report(
        id=f"{name}:{report.seq}" if outcome != REFUSED else f"{name}:{report.agent}:{report.seq}"[:280],
        task_key=task.key,
        org_id=task.org_id,
        attempt=report.attempt,
        agent=report.agent,
        kind=report.kind.value,
        body=body,
        outcome=outcome,
        at=now,
    )


def _step(task: Task, report: AgentReport, now: datetime) -> TaskProgressed:
    percent = task.progress if report.percent is None else report.percent
    return TaskProgressed(
        key=task.key, org_id=task.org_id, task_id=task.task_id, percent=percent, message=report.message, at=now, parent_key=task.parent_key
    )


def once(read: Callable[[str], OrgConfig]) -> Callable[[str], OrgConfig]:
    """Each org's config is read once a batch."""
    known: dict[str, OrgConfig] = {}

    def of(org_id: str) -> OrgConfig:
        if org_id not in known:
            known[org_id] = read(org_id)
        return known[org_id]

    return of
