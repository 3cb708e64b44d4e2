"""Who hears which news. Events travel upward along this one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apps.core import events


def table() -> tuple[tuple[type, Callable[[Any], None]], ...]:
    # Imported here: the rooms hold models, which exist only once Django has loaded the apps.
    from apps.agents import records
    from apps.agents.records import AgentChanged
    from apps.jobs import counting as job_counting
    from apps.jobs import dependencies
    from apps.jobs.events import JobsMoved
    from apps.orgs.keys import KeyMade
    from apps.roles import book
    from apps.tasks import arrivals, attempts, counting, reassign, sub_tasks, troubles
    from apps.tasks.events import TasksMoved, TasksProgressed
    from apps.webhooks import derive
    from apps.workflows import troubles as session_troubles
    from apps.workflows.engine import away
    from apps.workflows.eventing import agency_events
    from apps.workflows.events import SessionEnded
    from jobplatform import job_webhooks

    return (
        (KeyMade, book.welcome),
        (KeyMade, records.readmit),
        (AgentChanged, reassign.agent_changed),
        (TasksMoved, arrivals.announce),
        (TasksMoved, attempts.note),
        (TasksMoved, counting.moved),
        (TasksMoved, troubles.moved),
        (TasksMoved, derive.heard),
        (TasksMoved, away.heard),
        (TasksProgressed, arrivals.announce_progress),
        (JobsMoved, dependencies.heard),
        (SessionEnded, agency_events.session_ended),
        (SessionEnded, session_troubles.ended),
        (JobsMoved, job_counting.moved),
        (JobsMoved, job_webhooks.heard),
        (TasksMoved, sub_tasks.parts_moved),
        (TasksProgressed, sub_tasks.parts_progressed),
    )


def connect() -> None:
    from jobplatform import job_webhooks

    job_webhooks.connect()
    for event, handler in table():
        events.subscribe(event, handler)
