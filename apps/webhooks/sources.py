"""Where webhooks come from: logs of moves, each read in the order of its ids, with a cursor of its own.

Transitions of tasks are one. Rooms beside this one bring theirs through `jobplatform/wiring.py`. A log's ids are made by
`ids.time_ordered`, and a move is in it if and only if it happened: reading it again finds what was missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from apps.core import ids
from apps.tasks.models import Assignment, Transition
from apps.webhooks.event_types import has_agent, task_body


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    id: str
    org_id: str
    event: str
    """`task.completed`, `job.failed`, …; empty: nobody is told of this one."""
    facts: Any
    """What the source makes the body from."""
    task_key: str = ""
    job_id: str = ""
    callback: str = ""
    """A URL that is told of this one, whatever its endpoint wants."""


class Source(Protocol):
    name: str
    """Of its cursor; at most 16 characters."""

    def page(self, after: str, upto: str, limit: int) -> list[Move]:
        """The moves with ids > `after` and, unless it is empty, <= `upto`; in the order of their ids."""
        ...

    def bodies(self, moves: Sequence[Move]) -> list[str]:
        """What is sent of each, the same whenever it is asked."""
        ...

    def awaited(self, org_id: str) -> Iterable[str]:
        """URLs that will be told of a move still to come, whatever their endpoint wants."""
        ...


class TaskMoves:
    name = "transitions"
    FIELDS = ("id", "task_key", "org_id", "old", "new", "reason", "attempt", "at")

    def page(self, after: str, upto: str, limit: int) -> list[Move]:
        rows = Transition.objects.filter(pk__gt=after)
        if upto:
            rows = rows.filter(pk__lte=upto)
        return [
            Move(id=facts[0], org_id=facts[2], event=f"task.{facts[4]}", task_key=facts[1], facts=facts)
            for facts in rows.order_by("pk").values_list("pk", *self.FIELDS[1:])[:limit]
        ]

    def awaited(self, org_id: str) -> Iterable[str]:
        return ()

    def bodies(self, moves: Sequence[Move]) -> list[str]:
        held = [each.facts for each in moves if has_agent(each.facts[3], each.facts[4])]
        wanted = list(dict.fromkeys(ids.assignment_id(facts[1], facts[6]) for facts in held))
        agents = dict(Assignment.objects.filter(pk__in=wanted).values_list("pk", "head_agent_subject_id")) if wanted else {}
        found = []
        for id_, task_key, _, old, new, reason, attempt, at in (each.facts for each in moves):
            agent = agents.get(ids.assignment_id(task_key, attempt), "") if has_agent(old, new) else ""
            found.append(
                task_body(transition_id=id_, task_key=task_key, old=old, new=new, reason=reason, attempt=attempt, agent=agent, at=at)
            )
        return found


_sources: list[Source] = [TaskMoves()]


def sources() -> Sequence[Source]:
    return _sources


def add(source: Source) -> None:
    if source.name not in [each.name for each in _sources]:
        _sources.append(source)
