"""Backtests: recorded decisions asked again of one version of a script, to see which would flip.

The inputs are those that were recorded with every decision (PolicyRun). They are read in pages and evaluated in
sandboxes of the backtest's own, so the live ones never wait for it; nothing but the report is kept. A backtest is a row
(`Backtest`): a short one is run in the request that asks for it, a long one by a worker. Whoever runs it holds its
claim; one that fell silent is claimed by the next, which starts again (`resume`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from apps.core import background, clock, ids
from apps.core.errors import Conflict, Invalid, Missing, Problem
from apps.dsl import answers
from apps.dsl.book import BUILT_IN
from apps.dsl.comparing import Said, Tally, decision
from apps.dsl.engine import Engine, Evaluation
from apps.dsl.models import Backtest, BacktestFlip, PolicyRun, PolicyScript
from apps.dsl.policies import POLICIES, Hook
from apps.orgs.config_store import OrgConfig, OrgConfigProvider
from jobplatform.queues import Work

LIMIT_DEFAULT, LIMIT_MAX = 10_000, 500_000
TASK_IDS = 1000
INLINE_RUNS = 2_000
INLINE_SECONDS = 5.0
OPEN_PER_ORG = 3
"""Backtests of one org waiting or running at a time."""
BATCH, CAREFUL_BATCH = 1000, 20
SANDBOXES = 2
FLIPS_KEPT = 10_000
BREACHES = 100
"""Calls beyond their limits after which a script is not asked any more."""
SILENT_SECONDS = 60.0
TELL_SECONDS = 1.0

Status = Backtest.Status
LIMITS = frozenset({"timeout", "crash"})


class UnknownBacktest(Missing):
    sentence = "There is no such backtest."


class TooManyBacktests(Conflict):
    code, sentence = "too_many_backtests", f"This org has {OPEN_PER_ORG} backtests open already; wait for one to end."


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which recorded decisions: the newest `limit` of those recorded in [since, until), of these tasks."""

    since: datetime | None = None
    until: datetime | None = None
    limit: int = LIMIT_DEFAULT
    task_ids: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        return {"since": clock.iso(self.since), "until": clock.iso(self.until), "limit": self.limit, "task_ids": list(self.task_ids)}

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Window:
        since, until = (datetime.fromisoformat(stored[name]) if stored[name] else None for name in ("since", "until"))
        return cls(since=since, until=until, limit=stored["limit"], task_ids=tuple(stored["task_ids"]))


def start(script: PolicyScript, window: Window, *, org_id: str, by: str, now: datetime) -> Backtest:
    """Make the row, and run it here and now when it is short. Raises TooManyBacktests, Invalid (nothing recorded)."""
    if Backtest.objects.filter(org_id=org_id, status__in=(Status.QUEUED, Status.RUNNING)).count() >= OPEN_PER_ORG:
        raise TooManyBacktests()
    runs = _recorded(org_id, Hook(script.hook), window)
    total = min(runs.count(), window.limit)
    if not total:
        raise Invalid([Problem(field="", code="nothing_recorded", message=f"no {script.hook} decision is recorded in this window")])
    test = Backtest(
        id=ids.time_ordered(), org_id=org_id, script_id=script.script_id, script_pk=script.pk, version=script.version, hook=script.hook,
        window=window.json(), runs_total=total, created_at=now, created_by=by, touched_at=now,
    )  # fmt: skip
    test.save(force_insert=True)
    if total <= INLINE_RUNS and run(test.pk, now=now, budget_s=INLINE_SECONDS):
        test.refresh_from_db()
    else:
        background.send(Work.BACKTEST, backtest_id=test.pk)
    return test


def find(org_id: str, backtest_id: str) -> Backtest:
    """Raises UnknownBacktest, for another org's too."""
    test = Backtest.objects.filter(org_id=org_id, pk=backtest_id).first()
    if test is None:
        raise UnknownBacktest()
    return test


def resume(*, now: datetime) -> int:
    """Send hints for backtests that wait, or whose runner fell silent. How many."""
    silent = Q(touched_at__lt=now - timedelta(seconds=SILENT_SECONDS))
    lost = Backtest.objects.filter(silent, status__in=(Status.QUEUED, Status.RUNNING)).values_list("pk", flat=True)[:20]
    return sum(background.send(Work.BACKTEST, backtest_id=pk) for pk in lost)


def run(backtest_id: str, *, now: datetime, budget_s: float | None = None) -> bool:
    """Claim it and run it to its end. False when another holds it, or when `budget_s` was not enough (then it waits again)."""
    claim = ids.time_ordered()
    free = Q(status=Status.QUEUED) | Q(status=Status.RUNNING, touched_at__lt=now - timedelta(seconds=SILENT_SECONDS))
    if not Backtest.objects.filter(free, pk=backtest_id).update(status=Status.RUNNING, claim=claim, touched_at=now, runs_seen=0):
        return False
    test = Backtest.objects.get(pk=backtest_id)
    began = time.monotonic()
    runner = _Runner(test, claim, now=now, deadline=began + budget_s if budget_s else None)
    try:
        ended = runner.to_the_end()
    except Exception:
        # Not the script's doing. It is said, and the log has the rest.
        runner.touch(status=Status.FAILED, error="The backtest was broken off by a fault of the platform.", ended_at=_later(now, began))
        raise
    return ended


class _TakenOver(Exception):
    """Another runner claimed it."""


class _Runner:
    def __init__(self, test: Backtest, claim: str, *, now: datetime, deadline: float | None) -> None:
        self.test, self.claim, self.now, self.deadline = test, claim, now, deadline
        self.hook = Hook(test.hook)
        self.policy = POLICIES[self.hook]
        self.config: OrgConfig = OrgConfigProvider().of(test.org_id)
        self.script = PolicyScript.objects.get(pk=test.script_pk)
        self.tally = Tally(hook=self.hook)
        self.kept = 0
        self.breaches = 0
        self.careful = True
        """Small batches, until a whole one has shown that the script keeps its limits."""
        self.began = self.told = time.monotonic()

    def touch(self, **changes: Any) -> None:
        mine = Backtest.objects.filter(pk=self.test.pk, claim=self.claim, status=Status.RUNNING)
        if not mine.update(**{"touched_at": _later(self.now, self.began), "runs_seen": self.tally.runs, **changes}):
            raise _TakenOver

    def to_the_end(self) -> bool:
        BacktestFlip.objects.filter(backtest_id=self.test.pk).delete()
        engine = Engine(processes=SANDBOXES, rests=False)
        try:
            with ThreadPoolExecutor(SANDBOXES, thread_name_prefix="backtest") as threads:
                self._replay(engine, threads)
                if self.deadline is not None and time.monotonic() > self.deadline and self.tally.runs < self.test.runs_total:
                    self.touch(status=Status.QUEUED)
                    return False
            took = time.monotonic() - self.began
            result = {
                **self.tally.json(),
                "flips_listed": self.kept,
                "took_s": round(took, 3),
                "runs_per_s": round(self.tally.runs / took) if took else 0,
            }
            ended = {"result": result, "ended_at": _later(self.now, self.began)}
            if self.breaches >= BREACHES:
                error = f"The script broke its limits {self.breaches} times; it was not asked further than the first {self.tally.runs}."
                self.touch(status=Status.FAILED, error=error, **ended)
            else:
                self.touch(status=Status.DONE, **ended)
        except _TakenOver:
            return False
        finally:
            engine.close()
        return True

    def _replay(self, engine: Engine, threads: ThreadPoolExecutor) -> None:
        """Read ahead while the sandboxes work; compare in order."""
        pages = self._pages()
        waiting: deque[tuple[list[tuple[Any, ...]], Future[list[Any]]]] = deque()
        while True:
            while len(waiting) <= SANDBOXES and (page := next(pages, None)) is not None:
                waiting.append((page, threads.submit(engine.evaluate, [self._question(row) for row in page])))
                if self.careful:
                    break
            if not waiting:
                return
            page, answered = waiting.popleft()
            self._compare(page, answered.result())
            late = self.deadline is not None and time.monotonic() > self.deadline
            if late or self.breaches >= BREACHES:
                for _, unread in waiting:
                    unread.cancel()
                return

    def _pages(self) -> Iterator[list[tuple[Any, ...]]]:
        window = Window.of(self.test.window)
        runs = _recorded(self.test.org_id, self.hook, window)
        newest = runs.order_by("-id").values_list("id", flat=True)
        first = newest[self.test.runs_total - 1 : self.test.runs_total]
        after, left = "", self.test.runs_total
        lowest = next(iter(first), "")
        fields = ("id", "task_key", "input", "output", "error", "script_id", "script_version")
        rows = runs.filter(id__gte=lowest).order_by("id").values_list(*fields)
        while left > 0:
            size = min(CAREFUL_BATCH if self.careful else BATCH, left)
            page = list((rows.filter(id__gt=after) if after else rows)[:size])
            if not page:
                return
            after, left = page[-1][0], left - len(page)
            yield page

    def _question(self, row: tuple[Any, ...]) -> Evaluation:
        inputs = row[2]
        arguments = tuple(inputs.get(name) for name in self.policy.arguments)
        return Evaluation(
            source=self.script.source, sha256=self.script.sha256, function=self.policy.function, arguments=arguments,
            timeout_ms=self.config.dsl_timeout_ms,
        )  # fmt: skip

    def _compare(self, page: list[tuple[Any, ...]], answered: list[Any]) -> None:
        flips, broke = [], 0
        for (run_id, task_key, inputs, output, error, script_id, script_version), answer in zip(page, answered, strict=True):
            before, after = Said(output=output, error=error), _said(self.hook, answer, inputs)
            broke += answer.kind in LIMITS
            old, new = (decision(self.hook, said, inputs, self.config) for said in (before, after))
            change = self.tally.add(task_key, old, new, before, after, answer.duration_us)
            if change and self.kept + len(flips) < FLIPS_KEPT:
                flips.append(
                    BacktestFlip(
                        backtest_id=self.test.pk, place=self.tally.runs, run_id=run_id, task_key=task_key, change=change,
                        old={**before.json(old), "script_id": script_id, "version": script_version}, new=after.json(new),
                    )  # fmt: skip
                )
        BacktestFlip.objects.bulk_create(flips)
        self.kept += len(flips)
        self.breaches += broke
        self.careful = broke > 0
        if time.monotonic() - self.told > TELL_SECONDS:
            self.told = time.monotonic()
            self.touch()


def _said(hook: Hook, answer: Any, inputs: dict[str, Any]) -> Said:
    if answer.kind:
        return Said(output=None, error=answer.error)
    try:
        return Said(output=answers.parse(hook, answer.value, inputs), error="")
    except answers.BadAnswer as bad:
        return Said(output=None, error=str(bad))


def _recorded(org_id: str, hook: Hook, window: Window) -> QuerySet[PolicyRun]:
    runs = PolicyRun.objects.filter(org_id=org_id, hook=hook)
    if window.since is not None:
        runs = runs.filter(at__gte=window.since)
    if window.until is not None:
        runs = runs.filter(at__lt=window.until)
    if window.task_ids:
        runs = runs.filter(task_key__in=[ids.task_key(org_id, task_id) for task_id in window.task_ids])
    return runs


def version_of(org_id: str, script_id: str, version: int | None) -> PolicyScript | None:
    """The org's own script, else the built-in one; without `version` the newest."""
    for owner in (org_id, BUILT_IN):
        found = PolicyScript.objects.filter(org_id=owner, script_id=script_id)
        if found.exists():
            return (found.filter(version=version) if version is not None else found.order_by("-version")).first()
    return None


def _later(now: datetime, began: float) -> datetime:
    return clock.from_ms(clock.to_ms(now) + int((time.monotonic() - began) * 1000))
