"""The tables of states, and the page that shows them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from apps.workflows.states import (
    GROUP_STATES,
    ITEM_ENDED,
    ITEM_FAILED,
    ITEM_STATES,
    SESSION_ENDED,
    SESSION_STATES,
    STEP_ENDED,
    STEP_STATES,
    ItemStatus,
    SessionStatus,
    StepStatus,
)

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "sessions-states.md").read_text()
DRAWN = [
    *("Initialize", "ValidateDeps", "WaitForDeps", "ProcessTasks", "Expand", "Execute", "HandleFailure", "RetryLogic", "WaitDelay"),
    *("CleanupState", "PublishResults", "ValidateResults", "TrackResults", "UpdateContext", "Cleanup"),
]


@pytest.mark.parametrize("state", DRAWN)
def test_every_drawn_state_has_its_place(state: str):
    assert re.search(rf"^\| {state} \| \S", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("heading", "table", "statuses"), [("session", SESSION_STATES, SessionStatus), ("step", STEP_STATES, StepStatus)])
def test_the_page_draws_the_moves_that_there_are(heading, table, statuses):
    section = PAGE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    rows = {cells[0]: cells[-1] for line in section.splitlines()[2:] if (cells := [cell.strip() for cell in line.strip("| ").split("|")])}
    for status in statuses:
        if not table.is_terminal(status):
            drawn = {one.strip() for one in rows[status.value].split(",")}
            assert drawn == {end.value for end in statuses if table.allows(status, end)}


def test_what_has_ended_stays_so_within_a_run():
    assert all(SESSION_STATES.is_terminal(status) for status in SESSION_ENDED)
    assert all(STEP_STATES.is_terminal(status) and GROUP_STATES.is_terminal(status) for status in STEP_ENDED)
    assert all(ITEM_STATES.is_terminal(status) for status in ITEM_ENDED - ITEM_FAILED)


def test_a_failed_item_can_only_be_tried_again():
    assert {end for end in ItemStatus if any(ITEM_STATES.allows(start, end) for start in ITEM_FAILED)} == {ItemStatus.PENDING}
