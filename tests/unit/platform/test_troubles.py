"""What stands in the log without anybody having asked for it."""

from __future__ import annotations

import logging

import pytest

from apps.tasks import troubles
from apps.tasks.events import TaskMoved, TasksMoved
from apps.workflows import troubles as session_troubles
from apps.workflows.events import SessionEnded
from tests.factories import NOON


def moved(old: str, new: str, cause: str = "") -> TaskMoved:
    return TaskMoved(
        key="acme/t1", org_id="acme", task_id="t1", old=old, new=new, reason="agent ada said: no ink", actor="", attempt=2, agent="ada",
        at=NOON, cause=cause,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("move", "fact"),
    [
        (moved("running", "failed", "failed"), "task.failed"),
        (moved("queued", "expired"), "task.expired"),
        (moved("running", "queued", "failed"), "task.retried"),
        (moved("dispatched", "queued", "silent"), "task.retried"),
        (moved("dispatched", "queued", "declined"), None),
        (moved("", "queued"), None),
        (moved("running", "completed"), None),
        (moved("queued", "cancelled"), None),
    ],
)
def test_a_task_that_failed_or_is_tried_again_is_a_warning_with_ids_and_reason(caplog, move, fact):
    troubles.moved(TasksMoved(moves=(move,)))
    assert [record.getMessage() for record in caplog.records] == ([fact] if fact else [])
    for record in caplog.records:
        said = (record.levelno, record.org, record.task, record.attempt, record.agent, record.reason)
        assert said == (logging.WARNING, "acme", "acme/t1", 2, "ada", "agent ada said: no ink")


@pytest.mark.parametrize(("status", "partial", "fact"), [("failed", False, True), ("completed", True, True), ("completed", False, False)])
def test_a_session_that_failed_in_whole_or_in_part_is_a_warning(caplog, status, partial, fact):
    session_troubles.ended(
        SessionEnded(key="acme/s1", org_id="acme", session_id="s1", status=status, partial=partial, reason="a failed", run=1, at=NOON)
    )
    assert [record.getMessage() for record in caplog.records] == ([f"session.{status}"] if fact else [])
