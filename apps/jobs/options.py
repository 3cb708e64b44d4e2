"""What a job may be told when it is declared or submitted: the parameters of `as_job`, checked where they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from apps.jobs import queues

PRIORITIES = {"low": -50, "normal": 0, "high": 50}
WHEN = ("success", "always")
PER_REQUEST = ("priority", "depends_on", "webhook_url", "delay", "unique_key")
MAX_RETRIES = 100
MAX_SECONDS = 366 * 86400


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Pauses between attempts: `initial_s`, then `factor` times the last up to `max_s`; `jitter` takes off up to that share."""

    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 300.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("initial_s", "factor", "max_s", "jitter"):
            _number(f"retry_backoff.{name}", getattr(self, name), 0, MAX_SECONDS)
        if self.factor < 1 or self.jitter > 1:
            raise ValueError("retry_backoff: factor must be at least 1 and jitter at most 1")

    def pause(self, failed: int, random: float) -> float:
        """Seconds after the `failed`-th failure; `random` is within 0…1."""
        # The exponent is bounded: a float overflows long before a pause of that length ends.
        return min(self.max_s, self.initial_s * self.factor ** min(failed - 1, 64)) * (1 - self.jitter * random)


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Seconds are plain numbers. ValueError or TypeError, naming the option, for what cannot be.

    The options of `PER_REQUEST` may be functions of the request; `resolved` calls them."""

    queue: str = "default"
    timeout: float | None = None
    """Seconds an attempt may take; None: the queue's limit."""
    result_ttl: float | None = 500
    """Seconds the result is kept after the end; None: for ever."""
    return_job_id: bool = True
    priority: int | str | Callable[[Any], int | str] = 0
    """-100…100 or low, normal, high."""
    depends_on: Sequence[str] | Callable[[Any], Sequence[str]] = ()
    depends_on_when: str = "success"
    webhook_url: str | Callable[[Any], str] = ""
    retries: int = 0
    retry_backoff: Backoff | Mapping[str, float] = field(default_factory=Backoff)
    retry_delays: Sequence[float] = ()
    """Pauses one by one, the last repeated; wins over `retry_backoff`."""
    delay: float | None | Callable[[Any], float | None] = None
    not_before: datetime | None = None
    expires_in: float | None = None
    """Seconds within which it must be started."""
    unique_key: str | Callable[[Any], str] | None = None
    wait: float = 30
    """Seconds that a call with `return_job_id=False` waits for the result."""
    memory_mb: int | None = None

    def __post_init__(self) -> None:
        if not callable(self.priority):
            self._set("priority", _priority(self.priority))
        if not callable(self.depends_on):
            self._set("depends_on", _ids(self.depends_on))
        self._set("retry_delays", tuple(self.retry_delays))
        self._set("retry_backoff", self.retry_backoff if isinstance(self.retry_backoff, Backoff) else Backoff(**self.retry_backoff))
        if not isinstance(self.queue, str):
            raise TypeError("queue must be a string")
        queue = queues.get(self.queue)
        for name, most in (("timeout", queue.time_limit_s), ("memory_mb", queue.memory_mb)):
            if getattr(self, name) is not None:
                _number(name, getattr(self, name), 0, most, f' on the queue "{queue.name}"', positive=True)
        for name in ("result_ttl", "delay", "expires_in", "wait"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                _number(name, getattr(self, name), 0, MAX_SECONDS)
        for pause in self.retry_delays:
            _number("retry_delays", pause, 0, MAX_SECONDS)
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or not 0 <= self.retries <= MAX_RETRIES:
            raise ValueError(f"retries must be a whole number, 0…{MAX_RETRIES}")
        if self.depends_on_when not in WHEN:
            raise ValueError(f"depends_on_when must be one of {', '.join(WHEN)}")
        if not isinstance(self.return_job_id, bool):
            raise TypeError("return_job_id must be True or False")
        if not isinstance(self.webhook_url, str) and not callable(self.webhook_url):
            raise TypeError("webhook_url must be a string or a function of the request")
        if self.delay is not None and self.not_before is not None:
            raise ValueError("delay and not_before: one of them")
        if self.not_before is not None and (not isinstance(self.not_before, datetime) or self.not_before.tzinfo is None):
            raise ValueError("not_before must be an instant with a time zone")
        if self.unique_key is not None and not callable(self.unique_key) and not isinstance(self.unique_key, str):
            raise TypeError("unique_key must be a string or a function of the request")

    def but(self, **changes: Any) -> JobOptions:
        """The same with these differences, checked again."""
        return replace(self, **changes)

    def resolved(self, request: Any) -> JobOptions:
        """With what the functions among the options say about this request."""
        given = {name: getattr(self, name)(request) for name in PER_REQUEST if callable(getattr(self, name))}
        return self.but(**given) if given else self

    @property
    def limit_s(self) -> float:
        return self.timeout if self.timeout is not None else queues.get(self.queue).time_limit_s

    @property
    def limit_mb(self) -> int:
        return self.memory_mb if self.memory_mb is not None else queues.get(self.queue).memory_mb

    def due(self, now: datetime) -> datetime | None:
        return now + timedelta(seconds=self.delay) if self.delay else self.not_before

    def json(self) -> dict[str, Any]:
        """What the run needs, kept with the job."""
        return {
            "timeout_s": self.limit_s,
            "memory_mb": self.limit_mb,
            "result_ttl_s": self.result_ttl,
            "retries": self.retries,
            **({"retry_delays": list(self.retry_delays)} if self.retry_delays else {}),
            **({"retry_backoff": asdict(self.retry_backoff)} if self.retries and not self.retry_delays else {}),
        }

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def pause_before_retry(options: Mapping[str, Any], *, failed: int, random: float) -> float | None:
    """Seconds until the next attempt after `failed` failures, by a job's kept options; None when no attempt is left."""
    if failed > options.get("retries", 0):
        return None
    delays = options.get("retry_delays")
    if delays:
        return delays[min(failed, len(delays)) - 1]
    return Backoff(**options.get("retry_backoff", {})).pause(failed, random)


def _priority(value: int | str) -> int:
    if isinstance(value, str):
        if value not in PRIORITIES:
            raise ValueError(f"priority must be one of {', '.join(PRIORITIES)}, or -100…100")
        return PRIORITIES[value]
    if isinstance(value, bool) or not isinstance(value, int) or not -100 <= value <= 100:
        raise ValueError("priority must be a whole number, -100…100, or low, normal, high")
    return value


def _ids(value: Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(each, str) and each for each in value):
        raise TypeError("depends_on must be a list of job ids")
    return tuple(dict.fromkeys(value))


def _number(name: str, value: Any, least: float, most: float, where: str = "", *, positive: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number")
    if not least <= value <= most or (positive and value == 0):
        raise ValueError(f"{name} must be {'above' if positive else 'at least'} {least:g} and at most {most:g}{where}, not {value!r}")
