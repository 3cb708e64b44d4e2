"""What ends a method from outside. Not `Exception`s: an `except Exception` of the method's own must not swallow them."""

from __future__ import annotations


class JobInterrupted(BaseException):
    pass


class JobCancelled(JobInterrupted):
    """The job is to be cancelled. Raised by `update_progress`, and wherever the method is after a cancel."""


class JobTimedOut(JobInterrupted):
    """Its time limit is over."""


class JobHandedBack(JobInterrupted):
    """Its worker stops; another one begins it again if it may run twice."""


class JobLost(JobInterrupted):
    """Somebody else has ended this attempt; what it gives is not wanted any more."""
