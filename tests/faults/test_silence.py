"""When silence means that a task is lost, and when it does not: also while the others never stop talking."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.agents.presence import PresenceBoard
from apps.core import clock, redis
from apps.messaging import connection, subjects
from apps.messaging.connection import Delivery, wire
from apps.messaging.consumer import PullConsumer
from apps.tasks.executor import JobExecutor
from apps.tasks.models import Task
from apps.tasks.sweeper import HEARING_SECONDS, Listening, Sweeper
from tests.faults.parts import fresh, queued, seen
from tests.processes import wait_until
from tests.services import empty_jetstream

pytestmark = [pytest.mark.store, pytest.mark.faults]


@pytest.fixture
def start(platform):
    """A listener has been listening for long enough at this moment."""
    at = clock.now()
    Listening().mark(now=at - timedelta(seconds=HEARING_SECONDS))
    redis.client().persist(redis.key("listening"))  # it goes on listening, however slow the machine is
    return at


def dispatched(count: int) -> list[Task]:
    tasks = queued(count)
    JobExecutor().run_batch(now=clock.now())
    return tasks


def statuses(tasks: list[Task]) -> list[str]:
    return [fresh(task).status for task in tasks]


def somebody_reports(number: int) -> None:
    subject = subjects.report("acme", f"other{number}", subjects.agent_token("acme", "bo"))
    (sequence,) = wire().deliver([Delivery(subject=subject, payload=b"{}", msg_id=f"r{number}")])
    assert isinstance(sequence, int)


def test_a_dead_agents_tasks_are_taken_from_it_though_reports_of_others_never_stop(start):
    seen("ada")
    tasks = dispatched(2)
    PresenceBoard().record("acme", "ada", slots=1, instance="1", leaving=True, now=start)
    listener = PullConsumer(subjects.REPORTS, subjects.LISTENER)
    late = start + timedelta(seconds=30)
    somebody_reports(1)
    Sweeper().lapse(now=late)
    assert statuses(tasks) == ["dispatched"] * 2  # the unread report may be theirs
    listener.ack(listener.fetch(10, 5.0))
    somebody_reports(2)
    wait_until(lambda: wire().reports().done == 1, what="the acknowledgement has arrived")
    # The listeners have come to what was there at the last sweep; that there is something new by now says nothing.
    Sweeper().lapse(now=late + timedelta(seconds=2))
    assert statuses(tasks) == ["queued"] * 2
    listener.close()


def test_silence_from_after_the_last_report_that_was_applied_is_not_yet_silence(start):
    seen("ada")
    tasks = dispatched(1)
    PresenceBoard().record("acme", "ada", slots=1, instance="1", leaving=True, now=start)
    Sweeper().lapse(now=start)  # all is read: heard until here, and the lease goes on for much longer
    somebody_reports(1)
    Sweeper().lapse(now=start + timedelta(seconds=60))
    assert statuses(tasks) == ["dispatched"]


def test_after_the_streams_disk_is_lost_hearing_starts_again(start, nats):
    for number in range(5):
        somebody_reports(number)
    seen("ada")
    Sweeper().lapse(now=start)
    empty_jetstream(nats)
    wire().ensure_streams()
    tasks = dispatched(1)
    PresenceBoard().record("acme", "ada", slots=1, instance="1", leaving=True, now=start)
    Sweeper().lapse(now=start + timedelta(seconds=60))
    assert statuses(tasks) == ["queued"]


def test_deliveries_lost_with_the_disk_are_given_out_again_though_their_agent_always_has_others_waiting(start, nats):
    seen("ada")
    lost = dispatched(10)
    empty_jetstream(nats)
    connection.reset()
    assert wire().wait_up(10)
    wire().ensure_streams()
    waiting = dispatched(5)
    PresenceBoard().record("acme", "ada", slots=1000, instance="1", leaving=False, now=start + timedelta(seconds=60))
    consumer = PullConsumer(subjects.DELIVERIES, subjects.agent_token("acme", "ada"))
    assert len(consumer.fetch(1, 5.0)) == 1
    token, handed_out = subjects.agent_token("acme", "ada"), 2  # the next one comes while the first is worked on
    wait_until(lambda: wire().deliveries_of(token).delivered == handed_out, what="both have been handed out")  # and never a word of them
    Sweeper().lapse(now=start + timedelta(seconds=60))
    assert statuses(waiting) == ["queued"] * handed_out + ["dispatched"] * (5 - handed_out)
    # The lost ones' old numbers are beyond what the new stream holds, or below what it has handed out, but for as many as wait.
    assert statuses(lost).count("queued") == 5 + handed_out
    consumer.close()
