"""The agent: a handler, a key, and a place to listen.

from jobplatform_sdk import Agent

agent = Agent(subject_id="ada", nats_url="nats://127.0.0.1:4222", api_key="jp_…", concurrency=8)

@agent.handler
def work(task, context):
    context.progress(50, "half way")
    return {"words": len(task.payload["text"].split())}

agent.run()
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from jobplatform_sdk import subjects
from jobplatform_sdk.bidding import Bidder
from jobplatform_sdk.credentials import BadKey, split_key
from jobplatform_sdk.link import Link
from jobplatform_sdk.runtime import AccessRefused, Handler, Runtime, Settings

CONCURRENCY_MAX = 10_000


class Agent:
    def __init__(
        self,
        *,
        subject_id: str | None = None,
        nats_url: str | None = None,
        api_key: str | None = None,
        concurrency: int = 8,
        capabilities: Sequence[str] = (),
        job_kinds: Sequence[str] = (),
        max_payload_bytes: int = 0,
        costs: Mapping[str, Any] | None = None,
        version: str = "",
        description: str = "",
        org_id: str | None = None,
        drain_seconds: float = 20.0,
        heartbeat_seconds: float = 5.0,
    ) -> None:
        """`api_key` and `nats_url` default to JOBPLATFORM_API_KEY and JOBPLATFORM_NATS_URL. The key says whose it is;
        `subject_id`, when given, must agree. Without a key (a NATS server without authentication) `org_id` and
        `subject_id` say it. `concurrency`: tasks at once. Raises BadKey, ValueError.

        The agent's card, which the platform shows and chooses by: `capabilities` that tasks may ask for; `job_kinds` it takes
        (none: any) and `max_payload_bytes` of a task (0: any); `costs` (per_task, per_second, unit); `version`, `description`.
        With none of them given, the card that came with its enrolment holds on.
        """
        api_key = api_key or os.environ.get("JOBPLATFORM_API_KEY")
        self._url = nats_url or os.environ.get("JOBPLATFORM_NATS_URL") or "nats://127.0.0.1:4222"
        self._options: dict[str, Any] = {}
        if api_key:
            key = split_key(api_key)
            owner = subjects.agent_of(key.token)
            if subject_id not in (None, owner[1]) or org_id not in (None, owner[0]):
                raise BadKey(f"This API key belongs to {owner[1]!r} of {owner[0]!r}.")
            token = key.token
            self._options = {"user_jwt_cb": key.jwt.encode, "signature_cb": key.signer()}
        elif org_id and subject_id:
            token = subjects.agent_token(org_id, subject_id)
        else:
            raise BadKey("An agent needs an API key: api_key=… or JOBPLATFORM_API_KEY.")
        if not 1 <= concurrency <= CONCURRENCY_MAX:
            raise ValueError(f"concurrency must be from 1 to {CONCURRENCY_MAX}.")
        self.org_id, self.subject_id = subjects.agent_of(token)
        card: dict[str, Any] = {
            "capabilities": list(capabilities),
            "job_kinds": list(job_kinds),
            "max_payload_bytes": max_payload_bytes,
            "costs": dict(costs or {}),
            "version": version,
            "description": description,
        }
        self._settings = Settings(
            token=token,
            concurrency=concurrency,
            card=card | {"slots": concurrency} if any(card.values()) else {},
            heartbeat_seconds=heartbeat_seconds,
            drain_seconds=drain_seconds,
        )
        self._handler: Handler | None = None
        self._bidder: Bidder | None = None
        self._runtime: Runtime | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._intake = "open"

    def handler(self, function: Handler) -> Handler:
        """Decorator. `function(task, context)`: ordinary functions run in threads, `async def` on the loop. What it
        returns is the result (JSON), or a Result with its price. It may raise Decline, Retryable, or anything: then the task failed."""
        self._handler = function
        return function

    def bidder(self, function: Bidder) -> Bidder:
        """Decorator. `function(call)` answers a call for bids with a `Bid`, or None for no bid; `async def` runs on the loop,
        ordinary functions in threads, both within the call's window. An agent without one does not bid."""
        self._bidder = function
        return function

    async def serve(self) -> None:
        """Work until `stop`. Raises AccessRefused when NATS does not accept the key."""
        if self._handler is None:
            raise RuntimeError("The agent has no handler: decorate a function with @agent.handler.")
        if self._runtime is not None:
            raise RuntimeError("The agent is running already.")
        link = Link(
            self._url,
            name=f"agent {self.org_id}:{self.subject_id}",
            options=self._options,
            inbox_prefix=subjects.inbox_prefix(self._settings.token),
        )
        self._loop = asyncio.get_running_loop()
        self._runtime = Runtime(self._settings, self._handler, link, bidder=self._bidder, intake=self._intake)
        try:
            await self._runtime.serve()
        finally:
            self._runtime = self._loop = None

    def stop(self) -> None:
        """Finish what runs (at most `drain_seconds`), give the rest back, and let `serve` return. From any thread; a
        second call does not wait for what runs."""
        runtime, loop = self._runtime, self._loop
        if runtime is not None and loop is not None:
            loop.call_soon_threadsafe(runtime.stop)

    def pause(self) -> None:
        """Ask the platform for nothing new; what is here is finished. From any thread; `resume` takes it back."""
        self._take_in("paused")

    def drain(self) -> None:
        """As `pause`, on the way out: once nothing is left, `stop` loses no time."""
        self._take_in("draining")

    def resume(self) -> None:
        self._take_in("open")

    def _take_in(self, intake: str) -> None:
        self._intake = intake
        runtime, loop = self._runtime, self._loop
        if runtime is not None and loop is not None:
            loop.call_soon_threadsafe(runtime.take_in, intake)

    def run(self) -> None:
        """Work until SIGINT or SIGTERM. Ends the process with a sentence when the key is refused."""
        _log_to_stderr()
        try:
            asyncio.run(self._serve_until_signalled())
        except AccessRefused as error:
            raise SystemExit(str(error)) from None

    async def _serve_until_signalled(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        await self.serve()


class _Line(logging.Formatter):
    """`12:00:00 info agent.started agent=ada slots=8`"""

    _usual = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {name}={value!s}" for name, value in vars(record).items() if name not in self._usual)
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower()} {record.getMessage()}{facts}"
        line = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _log_to_stderr() -> None:
    """For programs that did not set up logging themselves."""
    if not logging.getLogger().handlers:
        console = logging.StreamHandler()
        console.setFormatter(_Line())
        logging.getLogger().addHandler(console)
        logging.getLogger("jobplatform_sdk").setLevel(logging.INFO)
