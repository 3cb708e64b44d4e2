"""A running platform as the examples' own client sees it: hand in a job, follow it, let agents in. Over HTTP only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from examples.jobs import agents
from examples.jobs.newsroom import AGENTS
from jobplatform_sdk import Client, enrol

ENDED = ("finished", "failed", "cancelled", "expired")
SECONDS = 120.0


class NotAccepted(Exception):
    """The message says what was asked, and what was answered."""


class Platform:
    def __init__(self, url: str, api_key: str) -> None:
        self.url, self._key = url.rstrip("/"), api_key
        self._http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {api_key}"}, timeout=SECONDS)

    def submit(self, path: str, **request: Any) -> dict[str, Any]:
        """`json=` or `files=` as httpx takes them; the answer: job_id, status_url, … Raises NotAccepted."""
        answer = self._http.post(path, **request)
        if answer.status_code != 202:
            raise NotAccepted(f"POST {path} was answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    def follow(self, status_url: str) -> Iterator[dict[str, Any]]:
        """What the status URL says now, then at each change; the last is that of a job that has ended."""
        status = ""
        while status not in ENDED:  # a stream may be cut; the next begins with how it stands
            with self._http.stream("GET", status_url, headers={"Accept": "text/event-stream"}) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise NotAccepted(f"GET {status_url} was answered {answer.status_code}: {answer.text[:500]}")
                for line in answer.iter_lines():
                    if line.startswith("data:"):
                        job = json.loads(line[5:])
                        status = job["status"]
                        yield job
                    if status in ENDED:
                        break

    def ended(self, status_url: str) -> dict[str, Any]:
        return list(self.follow(status_url))[-1]

    def get(self, path: str) -> Any:
        return self._http.get(path).raise_for_status().json()

    @contextlib.contextmanager
    def newsroom(self, role: str = "newsroom") -> Iterator[Sequence[str]]:
        """The four agents, each let in with a key of its own and at work on a thread of ours; gone afterwards. Needs an admin's key."""
        with Client(self.url, self._key) as admin:
            self._http.put(f"/api/v1/roles/{role}", json={"role_type": "SCOUTING"}).raise_for_status()
            found = [
                enrol(self.url, admin.invite_agent(name, roles=[role], expires_in_s=300, key_lifetime_s=3600).token) for name in AGENTS
            ]
            team = [agents.make(url=self.url, api_key=one.api_key, nats_url=one.nats_url) for one in found]
            threads = [threading.Thread(target=asyncio.run, args=(agent.serve(),), daemon=True) for agent in team]
            for thread in threads:
                thread.start()
            try:
                yield list(AGENTS)
            finally:
                for agent in team:
                    agent.stop()
                for thread in threads:
                    thread.join(timeout=10)
