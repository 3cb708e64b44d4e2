"""What breaks into a job's method waits while the method holds something that must not be cut in two."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from apps.jobs import progress
from apps.jobs.guard import Guard
from apps.jobs.interrupts import JobCancelled, JobTimedOut
from apps.jobs.models import Job
from apps.jobs.progress import Running, undisturbed


def in_main(act: Callable[[], Any]) -> Any:
    return act()


def in_a_thread(act: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join(30)
    return found[0]


@pytest.mark.parametrize("somewhere", [in_main, in_a_thread])
@pytest.mark.parametrize("why", [JobCancelled, JobTimedOut])
def test_an_interrupt_waits_for_the_end_of_what_is_not_to_be_disturbed(somewhere, why):
    said: list[str] = []

    def method() -> None:
        running = Running("job_1", 1)
        with Guard(Job(options={"timeout_s": 60}), running) as guard, progress.within(running):
            with undisturbed():
                with undisturbed():
                    other = threading.Thread(target=guard.interrupt, args=(why,))
                    other.start()
                    other.join(30)
                    said.append("one half")
                said.append("the other")
            said.append("never")

    def act() -> type[BaseException] | None:
        try:
            method()
        except why as error:
            return type(error)
        return None

    assert somewhere(act) is why and said == ["one half", "the other"]


def test_what_fails_undisturbed_says_so_and_outside_of_a_job_there_is_nothing_to_hold():
    with pytest.raises(ValueError), undisturbed():
        raise ValueError
    running = Running("job_1", 1)
    with pytest.raises(ValueError), Guard(Job(options={"timeout_s": 60}), running) as guard, progress.within(running), undisturbed():
        guard.interrupt(JobCancelled)
        raise ValueError
