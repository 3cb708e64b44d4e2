"""The platform's end of the wire, played by the test: deliveries out, reports in. Agents run for real."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from tests.contracts.wire.conftest import Broker, broker_for
from tests.services import die_with_parent


class Desk:
    """What the dispatcher and the listener do, without a database."""

    def __init__(self, url):
        from apps.messaging import connection, subjects
        from apps.messaging.consumer import PullConsumer

        self.url = url
        self.wire = connection.wire()
        assert self.wire.wait_up(10)
        self.wire.ensure_streams()
        self.subjects = subjects
        self.listener = PullConsumer(subjects.REPORTS, subjects.LISTENER)
        self.reports = []

    def hire(self, subject_id="ada", org_id="acme", *, ack_wait_seconds=60.0, expires_at=None):
        """An API key, and the agent's consumer."""
        from apps.messaging import credentials, streams

        secret = secrets.token_urlsafe(32)
        made = credentials.agent_credentials(org_id, subject_id, secret, expires_at)
        token = self.subjects.agent_token(org_id, subject_id)
        self.wire.call(streams.ensure_agents(self.wire.link, [token], ack_wait_seconds=ack_wait_seconds), 10)
        return f"jp_test_{secret}.{made.jwt}"

    def send(self, task_id, payload=None, *, agent="ada", org_id="acme", attempt=1, msg_id=None):
        from apps.messaging import envelope
        from apps.messaging.connection import Delivery

        token = self.subjects.agent_token(org_id, agent)
        body = envelope.delivery(
            org_id=org_id,
            entry={"task_id": task_id, "task_goal": "do it", "task_intent": "because", "task_priority_value": 5}
            | {"submitter_subject_id": f"{org_id}:sue", "task_job_submission_data": payload or {}},
            attempt=attempt,
            lease_expires_at=datetime.now(UTC) + timedelta(seconds=20),
            reply_subject=self.subjects.report(org_id, task_id, token),
        )
        msg_id = msg_id or f"{org_id}/{task_id}#{attempt}"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            [result] = self.wire.deliver([Delivery(subject=self.subjects.deliveries(token), payload=body, msg_id=msg_id)])
            if isinstance(result, int):
                return result
            self.wire.wait_up(1)
        pytest.fail(f"not delivered: {result}")

    def cancel(self, task_id, attempt=1, agent="ada", org_id="acme"):
        from apps.messaging import envelope

        subject = self.subjects.control(self.subjects.agent_token(org_id, agent))
        self.wire.publish([(subject, envelope.stop(task_id=task_id, attempt=attempt, reason="not wanted"))])

    def heard(self, until, seconds=20.0):
        """All reports so far, once `until(reports)` is true."""
        from apps.messaging.envelope import parse_report

        deadline = time.monotonic() + seconds
        while not until(self.reports):
            assert time.monotonic() < deadline, f"heard only {self.reports}"
            messages = self.listener.fetch(500, 0.2)
            self.reports += [parse_report(m.subject, m.data, now=datetime.now(UTC)) for m in messages]
            self.listener.ack(messages)
        return self.reports

    def ends(self, *task_ids, seconds=20.0):
        """The last report of each task, by id."""
        last = {"completed", "failed", "declined"}
        reports = self.heard(lambda heard: {r.task_id for r in heard if r.kind in last} >= set(task_ids), seconds)
        return {report.task_id: report for report in reports if report.kind in last}

    def unacknowledged(self, agent="ada", org_id="acme"):
        from apps.messaging import streams

        token = self.subjects.agent_token(org_id, agent)
        return self.wire.call(streams.standing(self.wire.link, self.subjects.DELIVERIES, token), 10).unacknowledged

    def until(self, condition, seconds=20.0):
        """Wait for something the server tells about without an event."""
        pause = threading.Event()
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "did not become true"
            pause.wait(0.02)


class Running:
    """An agent in a thread of the test's process."""

    def __init__(self, agent):
        self.agent, self.error = agent, None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            asyncio.run(self.agent.serve())
        except Exception as error:
            self.error = error

    def stop(self):
        self.agent.stop()

    def ended(self, seconds=20.0):
        self._thread.join(seconds)
        return not self._thread.is_alive()


@pytest.fixture
def desk(nats):
    return Desk(nats)


@pytest.fixture
def broker(tmp_path, settings) -> Iterator[Broker]:
    yield from broker_for(tmp_path, settings)


@pytest.fixture
def own_desk(broker):
    """A desk at a server that the test kills."""
    return Desk(broker.url)


@pytest.fixture
def employ():
    """`employ(desk, handler, …)`: run an agent until the test ends."""
    from jobplatform_sdk import Agent

    running = []

    def start(desk, handler, *, key=None, **options):
        agent = Agent(nats_url=desk.url, api_key=key or desk.hire(), **{"drain_seconds": 5.0} | options)
        agent.handler(handler)
        running.append(Running(agent))
        return running[-1]

    yield start
    for one in running:
        one.stop()
        one.stop()
    for one in running:
        assert one.ended(), "the agent did not stop"


@pytest.fixture
def agent_process():
    """`agent_process(desk, key, source)`: an agent program in a process of its own; `source` defines `work`."""
    processes = []

    def start(desk, key, source, *, options="concurrency=4"):
        program = f"from jobplatform_sdk import Agent\n{source}\nagent = Agent({options})\nagent.handler(work)\nagent.run()\n"
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | {"JOBPLATFORM_API_KEY": key, "JOBPLATFORM_NATS_URL": desk.url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def heartbeats(desk):
    """Every heartbeat heard, and a way to wait for one."""

    class Heartbeats:
        def __init__(self):
            self.all = []
            self._more = threading.Condition()
            desk.wire.subscribe(desk.subjects.ALL_HEARTBEATS, self._hear)

        def _hear(self, _subject, payload):
            with self._more:
                self.all.append(orjson.loads(payload))
                self._more.notify_all()

        def wait(self, condition, seconds=20.0):
            with self._more:
                assert self._more.wait_for(lambda: any(map(condition, self.all)), seconds), self.all
                return next(beat for beat in self.all if condition(beat))

    return Heartbeats()
