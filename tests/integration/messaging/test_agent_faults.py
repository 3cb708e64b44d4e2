"""Agents, servers and streams that go away in the middle of things."""

import signal
import threading
from datetime import UTC, datetime, timedelta

import pytest

from apps.messaging import credentials
from apps.messaging.envelope import ReportKind
from jobplatform_sdk import AccessRefused, Agent, BadKey, reporter
from tests.contracts.wire.test_credentials import split_public


def line(process, words):
    """Read the agent's output up to a line that holds `words`."""
    for text in process.stdout:
        if words in text:
            return text
    return pytest.fail(f"the agent ended without saying {words!r}")


QUICK = "def work(task, context):\n    return 'quick'\n"
STUCK = "import time\ndef work(task, context):\n    print('STARTED', task.task_id, flush=True)\n    time.sleep(600)\n"


def test_an_agent_killed_before_it_reported_leaves_the_delivery_to_the_next(desk, agent_process):
    key = desk.hire(ack_wait_seconds=0.5)
    # Its first report would come after 20 ms; this one never lets the loop run again.
    first = agent_process(desk, key, "import time\nasync def work(task, context):\n    print('STARTED', flush=True)\n    time.sleep(600)\n")
    desk.send("t1")
    line(first, "STARTED")
    first.kill()
    first.wait()
    agent_process(desk, key, QUICK)
    assert desk.ends("t1")["t1"].result == "quick"
    desk.until(lambda: desk.unacknowledged() == 0)


def test_an_agent_killed_after_it_reported_keeps_the_task_until_its_lease_ends(desk, agent_process):
    key = desk.hire(ack_wait_seconds=0.5)
    first = agent_process(desk, key, STUCK)
    desk.send("t1")
    line(first, "STARTED")
    desk.heard(lambda reports: [report.kind for report in reports] == [ReportKind.ACCEPTED])
    desk.until(lambda: desk.unacknowledged() == 0)
    first.kill()
    first.wait()
    second = agent_process(desk, key, QUICK)
    line(second, "agent.started")
    desk.send("t1", attempt=2)  # what the sweeper's loss of patience leads to
    report = desk.ends("t1")["t1"]
    assert (report.result, report.attempt) == ("quick", 2)


def test_reports_of_a_second_process_on_the_same_attempt_are_not_taken_for_repeats(desk, agent_process):
    """The stream drops repeats by message id; a new process must not reuse the dead one's."""
    key = desk.hire(ack_wait_seconds=0.5)
    chatty = "import time\nasync def work(task, context):\n    context.log('hello')\n    await __import__('asyncio').sleep(600)\n"
    first = agent_process(desk, key, chatty)
    desk.send("t1")
    desk.heard(lambda reports: len(reports) == 2)
    first.kill()
    first.wait()
    desk.send("t1", msg_id="the same attempt, delivered once more")
    agent_process(desk, key, QUICK)
    assert desk.ends("t1")["t1"].result == "quick"


def test_sigterm_lets_the_running_task_end_and_then_the_process(desk, agent_process):
    key = desk.hire()
    source = "def work(task, context):\n    print('STARTED', flush=True)\n    context.cancelled.wait(1)\n    return 'in peace'\n"
    process = agent_process(desk, key, source)
    desk.send("t1")
    line(process, "STARTED")
    process.send_signal(signal.SIGTERM)
    line(process, "agent.stopped")
    assert process.wait(20) == 0
    assert desk.ends("t1")["t1"].result == "in peace"


def test_a_second_signal_does_not_wait_even_for_a_handler_that_hangs(desk, agent_process):
    key = desk.hire()
    process = agent_process(desk, key, STUCK, options="drain_seconds=600")
    desk.send("t1")
    line(process, "STARTED")
    process.send_signal(signal.SIGINT)
    line(process, "agent.leaving")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    report = desk.ends("t1")["t1"]
    assert (report.kind, report.retryable) == (ReportKind.FAILED, True)


def test_a_key_that_nats_refuses_ends_the_program_with_a_sentence(desk, agent_process):
    desk.hire()
    made = credentials.agent_credentials("acme", "ada", "secret", datetime.now(UTC) - timedelta(days=1))
    process = agent_process(desk, f"jp_old_secret.{made.jwt}", QUICK)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "NATS refused the API key" in output
    assert "Traceback" not in output


def test_a_key_revoked_under_a_running_agent_stops_it(own_desk, employ):
    key = own_desk.hire()
    running = employ(own_desk, lambda task, context: "done", key=key)
    own_desk.send("t1")
    own_desk.ends("t1")
    credentials.revoke([split_public(key)], now=datetime.now(UTC))
    assert running.ended()
    assert isinstance(running.error, AccessRefused)


def test_a_key_of_somebody_else_is_noticed_before_connecting(desk):
    key = desk.hire("ada")
    with pytest.raises(BadKey, match="'ada' of 'acme'"):
        Agent(subject_id="bo", api_key=key)
    with pytest.raises(BadKey):
        Agent(subject_id="bo")
    with pytest.raises(ValueError, match="concurrency"):
        Agent(api_key=key, concurrency=0)


def test_results_made_while_nats_is_down_arrive_when_it_is_back(own_desk, broker, employ):
    go, busy = threading.Event(), threading.Semaphore(0)

    def work(task, context):
        busy.release()
        assert go.wait(20)
        return task.task_id

    employ(own_desk, work, key=own_desk.hire(ack_wait_seconds=1), concurrency=4)
    names = [f"t{number}" for number in range(8)]
    for name in names:
        own_desk.send(name)
    for _ in range(4):
        assert busy.acquire(timeout=10)
    broker.kill()
    go.set()
    broker.up()
    assert {name: report.result for name, report in own_desk.ends(*names, seconds=40).items()} == {name: name for name in names}
    own_desk.until(lambda: own_desk.unacknowledged() == 0)


def test_every_task_is_started_once_through_ten_restarts_of_nats(own_desk, broker, employ):
    started = []

    async def work(task, context):
        started.append(task.task_id)

    # What was on its way to the agent when the server died comes again after the acknowledgement's time.
    employ(own_desk, work, key=own_desk.hire(ack_wait_seconds=1), concurrency=16)
    names = []
    for restart in range(10):
        for number in range(20):
            names.append(f"t{restart}-{number}")
            own_desk.send(names[-1])
        broker.kill()
        broker.up()
    own_desk.ends(*names, seconds=60)
    assert sorted(started) == sorted(names)


def test_an_agent_waits_for_a_platform_that_has_not_made_its_consumer_yet(own_desk, broker, employ):
    running = employ(own_desk, lambda task, context: "done")
    own_desk.send("t1")
    own_desk.ends("t1")
    broker.wipe()
    broker.up()
    own_desk.until(own_desk.wire.healthy)
    own_desk.wire.ensure_agents([own_desk.subjects.agent_token("acme", "ada")])
    own_desk.send("t2")
    assert own_desk.ends("t2", seconds=40)["t2"].result == "done"
    assert running.error is None


def test_reports_wait_for_a_stream_that_is_gone_and_what_is_only_nice_to_know_is_dropped(own_desk, broker, employ, monkeypatch):
    monkeypatch.setattr(reporter, "BACKLOG_MAX", 100)
    gone, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work(task, context):
        gone.set()
        assert go.wait(20)
        for number in range(1000):
            context.log(f"line {number}")
        ended.set()
        return "kept"

    employ(own_desk, work)
    own_desk.send("t1")
    assert gone.wait(10)
    own_desk.heard(lambda reports: len(reports) == 1)
    own_desk.listener.close()
    own_desk.wire.call(own_desk.wire.link.request("$JS.API.STREAM.DELETE.REPORTS"), 10)
    go.set()
    assert ended.wait(10)
    own_desk.wire.ensure_streams()
    own_desk.listener = type(own_desk.listener)("REPORTS", "listener")
    assert own_desk.ends("t1")["t1"].result == "kept"
    assert 1 < len(own_desk.reports) < 900


def test_two_processes_of_one_agent_share_its_tasks(desk, agent_process):
    key = desk.hire()
    source = "import os\nasync def work(task, context):\n    await __import__('asyncio').sleep(0.02)\n    return os.getpid()\n"
    for process in [agent_process(desk, key, source, options="concurrency=2") for _ in range(2)]:
        line(process, "agent.started")
    names = [f"t{number}" for number in range(40)]
    for name in names:
        desk.send(name)
    assert len({report.result for report in desk.ends(*names).values()}) == 2
