"""The same over sockets: a Django server of threads, and uvicorn with FastAPI."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from tests.factories import bearer
from tests.integration.jobs_views.fastapi_app import app
from tests.processes import wait_until


def test_a_django_server_streams_a_job_to_its_end(jobs, sam, live_server):
    with httpx.Client(base_url=live_server.url, headers=bearer(sam.key), timeout=60) as client:
        url = client.post("/documents", json={"text": "x"}).headers["location"]
        with client.stream("GET", url, headers={"accept": "text/event-stream"}) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: status"
            # Whoever listens hears of what comes after the first look.
            threading.Thread(target=jobs.run_all).start()
            assert [line for line in lines if line.startswith("event: ")][-1] == "event: end"
        assert client.get(url).json()["result"]["url"].startswith(live_server.url)
        assert client.request("HEAD", url).content == b""
        inline = client.request("PATCH", "/eager", json={"a": 1})
        assert (inline.status_code, inline.json()) == (200, {"patched": {"a": 1}})


@contextlib.contextmanager
def serving() -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, what="uvicorn listens")
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def shop(jobs) -> Iterator[httpx.Client]:
    with serving() as url, httpx.Client(base_url=url, headers={"x-user": "bo"}, timeout=60) as client:
        yield client


def test_a_fastapi_server_streams_a_job_to_its_end(jobs, shop):
    url = shop.post("/shops/7/orders", json={"item": "tea"}).headers["location"]
    with shop.stream("GET", url, headers={"accept": "text/event-stream"}) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: status"
        # The stream waits in a thread: the loop goes on answering.
        assert shop.get(url).json()["status"] == "queued"
        threading.Thread(target=jobs.run_all).start()
        assert [line for line in lines if line.startswith("event: ")][-1] == "event: end"
    assert shop.get(url).json()["result"]["user"] == "bo"


def test_a_client_that_leaves_gives_its_seat_back(jobs, shop, monkeypatch):
    from apps.core import streaming
    from apps.jobs import streaming as following

    seats = streaming.Seats(1)
    monkeypatch.setattr(streaming, "seats", lambda: seats)
    monkeypatch.setattr(following, "BEAT_SECONDS", 0.2)
    url = shop.post("/shops/7/orders", json={"item": "tea"}).headers["location"]
    with shop.stream("GET", url, headers={"accept": "text/event-stream"}) as stream:
        next(stream.iter_lines())
        crowded = shop.get(url, headers={"accept": "text/event-stream"})
        assert (crowded.status_code, crowded.json()["success"], crowded.headers["retry-after"]) == (503, False, "2")

    def free() -> bool:
        seat = seats.take()
        if seat is not None:
            seat.release()
        return seat is not None

    wait_until(free, what="the seat is free again")
