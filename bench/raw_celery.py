"""The yardstick: Celery as it comes, doing nothing, on the broker in RAW_BROKER. Only results are off."""

from __future__ import annotations

import os
import time

import redis
from celery import Celery, chord, signals

from bench.measure import Wrong

BROKER = os.environ.get("RAW_BROKER", "redis://127.0.0.1:6379/1")
QUEUE = "raw-noop"
HEARD, READY = "raw-heard", "raw-ready"


def celery(broker: str) -> Celery:
    """An app of its own for each broker: what one knows of its broker it keeps."""
    app = Celery("raw", broker=broker, set_as_current=False)
    app.conf.update(task_ignore_result=True, task_default_queue=QUEUE, result_backend=broker)

    @app.task(name="raw.noop", shared=False)
    def noop(number: int) -> int:
        return number

    @app.task(name="raw.part", shared=False, ignore_result=False)
    def part(number: int) -> int:
        return number

    @app.task(name="raw.reduce", shared=False)
    def reduce(results: list[int], word: str) -> None:
        """The body of a chord: tells how many there were."""
        redis.Redis.from_url(broker).rpush(HEARD, f"{word} {len(results)} {sum(results)}")

    @app.task(name="raw.say", shared=False)
    def say(word: str) -> None:
        """Tells that everything sent before it has been taken."""
        redis.Redis.from_url(broker).rpush(HEARD, word)

    return app


app = celery(BROKER)


@signals.worker_ready.connect
def _ready(**_signal: object) -> None:
    redis.Redis.from_url(BROKER).rpush(READY, 1)


class Yardstick:
    """Sends no-ops and waits for the last."""

    def __init__(self, broker: str) -> None:
        os.environ.pop("CELERY_BROKER_URL", None)  # it would win over ours
        self._task = celery(broker).tasks
        self._redis = redis.Redis.from_url(broker, socket_timeout=None)  # it waits for a whole run

    def wait_for_workers(self, count: int, *, seconds: float = 60.0) -> None:
        """Until so many have started since we last asked."""
        for _ in range(count):
            if self._redis.blpop([READY], timeout=seconds) is None:
                raise Wrong("the raw Celery workers did not start")

    def rate(self, tasks: int) -> float:
        """Tasks a second from the first send to the last taken."""
        word = os.urandom(8).hex()
        began = time.perf_counter()
        noop = self._task["raw.noop"]
        for number in range(tasks):
            noop.delay(number)
        self._task["raw.say"].delay(word)
        heard = self._redis.blpop([HEARD], timeout=120)
        took = time.perf_counter() - began
        if heard is None or heard[1].decode() != word or self._redis.llen(QUEUE):
            raise Wrong("raw Celery did not take all of its tasks")
        return tasks / took

    def fan(self, count: int) -> float:
        """Seconds of a chord of so many no-ops, from the first send to its reduce."""
        word = os.urandom(8).hex()
        began = time.perf_counter()
        part, reduce = self._task["raw.part"], self._task["raw.reduce"]
        chord([part.s(number) for number in range(count)])(reduce.s(word))
        heard = self._redis.blpop([HEARD], timeout=1200)
        took = time.perf_counter() - began
        if heard is None or heard[1].decode() != f"{word} {count} {sum(range(count))}":
            raise Wrong(f"raw Celery's chord of {count} answered {heard}")
        return took
