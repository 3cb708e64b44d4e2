"""What an agent says, on its way to the platform: in batches, in order, and again until it is stored."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from jobplatform_sdk.attempt import Attempt, iso
from jobplatform_sdk.link import Link, LinkDown, Outgoing

log = logging.getLogger(__name__)

BATCH = 500
BACKLOG_MAX = 10_000
"""Reports waiting; above it progress and logs are dropped, results never."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 2.0


@dataclass(kw_only=True, slots=True)
class Report:
    attempt: Attempt
    body: dict[str, Any]
    last: bool


class Reporter:
    def __init__(self, link: Link, on_stored: Callable[[Attempt, bool], Awaitable[None]]) -> None:
        """`on_stored(attempt, last)` follows each report that the platform's stream has."""
        self._link, self._on_stored = link, on_stored
        self._waiting: deque[Report] = deque()
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self.dropped = 0

    def put(self, attempt: Attempt, kind: str, fields: dict[str, Any], *, last: bool = False) -> None:
        """Ignored when the attempt is over. On the loop only."""
        if attempt.over:
            return
        attempt.over = last
        if kind == "progress" and attempt.progress is not None:
            attempt.progress.update(fields)
            return
        if kind in ("progress", "log") and len(self._waiting) >= BACKLOG_MAX:
            self.dropped += 1
            return
        attempt.seq += 1
        body = {
            "type": kind,
            "task_id": attempt.task.task_id,
            "attempt": attempt.task.attempt,
            "seq": attempt.seq,
            "at": iso(time.time()),
            **fields,
        }
        if attempt.trace:
            body["traceparent"] = attempt.trace
        if kind == "progress":
            attempt.progress = body
        self._waiting.append(Report(attempt=attempt, body=body, last=last))
        self._some.set()
        self._none.clear()

    async def drained(self, timeout_seconds: float) -> bool:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._none.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        wait = FIRST_WAIT_SECONDS
        while True:
            await self._some.wait()
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            again = await self._send(batch)
            if again:
                self._waiting.extendleft(reversed(again))
                if self._link.is_up:  # NATS is there, its stream is not: the platform will make it
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, LONGEST_WAIT_SECONDS)
                else:
                    await self._link.wait_up()
            else:
                wait = FIRST_WAIT_SECONDS
            if not self._waiting:
                self._some.clear()
                self._none.set()

    async def _send(self, batch: list[Report]) -> list[Report]:
        """Those that have to be sent again."""
        outgoing = []
        for report in batch:
            if report.attempt.progress is report.body:
                report.attempt.progress = None
            task = report.attempt.task
            outgoing.append(
                Outgoing(
                    subject=report.attempt.subject,
                    payload=orjson.dumps(report.body),
                    msg_id=f"{task.org_id}/{task.task_id}#{task.attempt}:{report.body['seq']}",
                )
            )
        again: list[Report] = []
        for report, result in zip(batch, await self._link.store(outgoing), strict=True):
            if isinstance(result, int):
                await self._on_stored(report.attempt, report.last)
            elif isinstance(result, LinkDown):
                again.append(report)
            else:
                again += self._refused(report, result)
        return again

    def _refused(self, report: Report, error: Exception) -> list[Report]:
        """It will never be stored as it is. A result that cannot be told is a failure, and that can be told."""
        log.error("report.refused", extra={"task": report.attempt.task.task_id, "kind": report.body["type"], "error": str(error)})
        if not report.last or report.body["type"] == "failed":
            return []
        body = {name: value for name, value in report.body.items() if name not in ("result", "price")}
        body |= {"type": "failed", "seq": report.body["seq"] + 1, "retryable": False, "error": f"The result was not accepted: {error}"}
        return [Report(attempt=report.attempt, body=body, last=True)]
