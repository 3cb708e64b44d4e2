"""Tasks that came while their concurrency key was full, and whose mode cancels somebody.

`cancel_newest`    the task that came is cancelled.
`cancel_running`   the newest stay, as many as the limit allows: whoever came before them is cancelled, in flight or not.

Who is in the way is what the queue saw when the contest was taken. Deciding twice is harmless: endings are compare-and-set,
and a contest whose dispatcher died is taken by the next.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from apps.core import bulk, ids
from apps.orgs.config_store import OrgConfigProvider
from apps.tasks.models import Decision, Task
from apps.tasks.queue import Contest, PriorityQueue, item_of
from apps.tasks.states import OPEN, TaskStatus
from apps.tasks.store import TaskStore
from apps.tasks.taking_back import Ending, end_many

log = logging.getLogger(__name__)

ACTOR = "queue"
KIND = "concurrency"
TRIES = 5


class ContestDesk:
    def __init__(self, *, store: TaskStore | None = None, queue: PriorityQueue | None = None) -> None:
        self.store = store or TaskStore()
        self.queue = queue or PriorityQueue()

    def decide(self, contests: Sequence[Contest], *, now: datetime) -> int:
        """Answers how many tasks were cancelled."""
        by_key: dict[tuple[str, str], list[Contest]] = defaultdict(list)
        for contest in contests:
            by_key[contest.org_id, contest.concurrency.key].append(contest)
        versions = OrgConfigProvider().versions(contest.org_id for contest in contests)
        losers: dict[str, Decision] = {}
        winners: list[Contest] = []
        for (org_id, _), group in by_key.items():
            made = {"config_version": versions[org_id], "at": now}
            for contest in group:
                if contest.concurrency.mode == "cancel_newest":
                    losers[contest.task_key] = _newest_goes(contest, made)
            _oldest_go([contest for contest in group if contest.concurrency.mode == "cancel_running"], losers, winners, made)
        ended = self._cancel(losers, now) if losers else 0
        self.queue.admit(winners)
        return ended

    def _cancel(self, losers: dict[str, Decision], now: datetime) -> int:
        """Whatever each of them is doing by now."""
        ended = 0
        left = list(losers)
        for _ in range(TRIES):
            tasks = self.store.load_many(left)
            alive = [task for task in tasks.values() if task.status in OPEN]
            self._clear([task for task in tasks.values() if task.status not in OPEN])
            if not alive:
                return ended
            endings = [
                Ending(task=task, end=TaskStatus.CANCELLED, reason=losers[task.key].because, rows=(losers[task.key],)) for task in alive
            ]
            won = end_many(endings, actor=ACTOR, now=now, store=self.store)
            ended += len(won)
            left = [task.key for task in alive if task.key not in won]
            if not left:
                return ended
        log.warning("contest.lost_races", extra={"tasks": left})
        return ended

    def _clear(self, ended: list[Task]) -> None:
        """Those that ended by themselves meanwhile wait for nothing."""
        by_org: dict[str, list[Any]] = defaultdict(list)
        for task in ended:
            by_org[task.org_id].append(item_of(task))
        for org_id, items in by_org.items():
            self.queue.remove(org_id, items)


def _newest_goes(contest: Contest, made: Mapping[str, Any]) -> Decision:
    there = _named(contest.there)
    return _decision(contest, contest.task_key, f"its concurrency key {contest.concurrency.key} is taken by {there}", made)


def _oldest_go(contests: list[Contest], losers: dict[str, Decision], winners: list[Contest], made: Mapping[str, Any]) -> None:
    if not contests:
        return
    newest = max(contests, key=lambda contest: contest.sequence)
    limit = newest.concurrency.limit
    came = {contest.task_key: contest for contest in contests}
    everyone = sorted({*newest.there, *((contest.sequence, contest.task_key) for contest in contests)})
    staying = everyone[-limit:]
    because = f"its concurrency key {newest.concurrency.key} went to the newer {_named(staying)}"
    for _, key in everyone[:-limit]:
        losers[key] = _decision(newest, key, because, made)
    winners += [came[key] for _, key in staying if key in came]


def _named(tasks: Sequence[tuple[int, str]]) -> str:
    shown = ", ".join(ids.split_task_key(key)[1] for _, key in tasks[:3])
    return shown if len(tasks) <= 3 else f"{shown} and {len(tasks) - 3} others"


def _decision(contest: Contest, key: str, because: str, made: Mapping[str, Any]) -> Decision:
    """`made`: when, and with which version of the configuration."""
    found = contest.concurrency
    return bulk.new(
        Decision,
        # Derived: whoever decides it again writes no second row.
        id=f"{key}:{KIND}",
        task_key=key,
        org_id=contest.org_id,
        kind=KIND,
        outcome="cancelled",
        actor=ACTOR,
        because=because,
        details={
            "key": found.key,
            "limit": found.limit,
            "mode": found.mode,
            "there": [ids.split_task_key(name)[1] for _, name in contest.there[:20]],
        },
        **made,
    )
