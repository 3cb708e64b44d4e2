import asyncio
import threading

import pytest

from apps.messaging.envelope import ReportKind
from jobplatform_sdk import Decline, Result, Retryable


def kinds(reports, task_id):
    return [report.kind.value for report in reports if report.task_id == task_id]


def test_a_quick_task_is_one_report_with_its_result_and_times(desk, employ, monkeypatch):
    monkeypatch.setattr("jobplatform_sdk.runtime.ACCEPT_AFTER_SECONDS", 30.0)  # quick, whatever else the machine does
    employ(desk, lambda task, context: {"words": len(task.payload["text"].split()), "goal": task.goal, "who": task.submitter_subject_id})
    desk.send("t 1/ü", {"text": "to be or not"})
    report = desk.ends("t 1/ü")["t 1/ü"]
    assert report.kind is ReportKind.COMPLETED
    assert report.result == {"words": 4, "goal": "do it", "who": "acme:sue"}
    assert (report.agent, report.attempt) == ("ada", 1)
    assert report.started_at <= report.ended_at
    assert len(desk.reports) == 1
    desk.until(lambda: desk.unacknowledged() == 0)


def test_asynchronous_handlers_run_at_once_up_to_the_concurrency(desk, employ):
    together = asyncio.Barrier(5)

    async def work(task, context):
        await together.wait()
        return task.task_id

    employ(desk, work, concurrency=5)
    names = [f"t{number}" for number in range(10)]
    for name in names:
        desk.send(name)
    assert {name: report.result for name, report in desk.ends(*names).items()} == {name: name for name in names}


def test_no_more_is_fetched_than_can_be_worked_on(desk, employ):
    go, busy = threading.Event(), threading.Semaphore(0)

    def work(task, context):
        busy.release()
        go.wait(20)

    employ(desk, work, concurrency=2)
    for number in range(6):
        desk.send(f"t{number}")
    assert busy.acquire(timeout=10) and busy.acquire(timeout=10)
    # The server counts what nobody fetched a moment after it has stored it.
    desk.until(lambda: desk.wire.deliveries_of(desk.subjects.agent_token("acme", "ada")).unfetched == 4)
    assert desk.unacknowledged() <= 2
    go.set()
    desk.ends(*(f"t{number}" for number in range(6)))


def test_a_longer_task_says_that_it_was_accepted_and_how_far_it_is(desk, employ):
    go = threading.Event()

    def work(task, context):
        context.progress(25, "a quarter")
        context.log("careful", level="warning")
        assert go.wait(20)
        context.progress(75)
        return "done"

    employ(desk, work)
    desk.send("t1")
    desk.heard(lambda reports: "accepted" in kinds(reports, "t1"))
    desk.until(lambda: desk.unacknowledged() == 0)  # acknowledged while it still runs
    go.set()
    desk.ends("t1")
    assert sorted(kinds(desk.reports, "t1")) == ["accepted", "completed", "log", "progress", "progress"]
    assert [report.seq for report in desk.reports] == sorted(report.seq for report in desk.reports)
    first, last = [report for report in desk.reports if report.kind is ReportKind.PROGRESS]
    assert (first.percent, first.message, last.percent) == (25.0, "a quarter", 75.0)


class Broken(Exception):
    pass


@pytest.mark.parametrize(
    ("raised", "kind", "text", "retryable"),
    [
        (Decline("too busy"), ReportKind.DECLINED, "too busy", False),
        (Retryable("the disk is full"), ReportKind.FAILED, "the disk is full", True),
        (Broken("oh no"), ReportKind.FAILED, "Broken: oh no", False),
        (Broken(), ReportKind.FAILED, "Broken", False),
        (StopIteration(), ReportKind.FAILED, "StopIteration", False),
        (SystemExit(3), ReportKind.FAILED, "SystemExit: 3", False),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_handler_raises_is_its_answer(desk, employ, is_async, raised, kind, text, retryable):
    def work(task, context):
        raise raised

    async def work_async(task, context):
        raise raised

    if is_async and isinstance(raised, StopIteration):
        pytest.skip("Python itself turns it into a RuntimeError")
    employ(desk, work_async if is_async else work)
    desk.send("t1")
    report = desk.ends("t1")["t1"]
    assert report.kind is kind
    assert text in (report.reason or report.error)
    assert report.retryable is retryable


@pytest.mark.parametrize(
    ("result", "why"),
    [(object(), "object"), ({1: 2}, "key"), ({"a": 2**70}, "64"), ("x" * 1_100_000, "bytes"), ("\ud800", "UTF-8"), ([[[]] * 1] * 1, None)],
)
def test_a_result_that_cannot_be_kept_is_a_failure_that_says_so(desk, employ, result, why):
    employ(desk, lambda task, context: result)
    desk.send("t1")
    report = desk.ends("t1")["t1"]
    if why is None:
        assert report.kind is ReportKind.COMPLETED
    else:
        assert report.kind is ReportKind.FAILED
        assert not report.retryable
        assert why.lower() in report.error.lower()


def test_a_handler_may_say_what_it_charges(desk, employ):
    def work(task, context):
        match task.task_id:
            case "priced":
                return Result({"n": 1}, price=2.5)
            case "free":
                return Result(price=0)
            case "plain":
                return Result([1])
        return Result(1, price=-1)

    employ(desk, work)
    for name in ("priced", "free", "plain", "wrong"):
        desk.send(name)
    found = desk.ends("priced", "free", "plain", "wrong")
    assert [(found[name].result, found[name].price) for name in ("priced", "free", "plain")] == [({"n": 1}, 2.5), (None, 0.0), ([1], None)]
    assert found["wrong"].kind is ReportKind.FAILED and "price must be a number from 0" in found["wrong"].error


def test_a_result_nested_too_deep_is_a_failure(desk, employ):
    def work(task, context):
        value = None
        for _ in range(60):
            value = [value]
        return value

    employ(desk, work)
    desk.send("t1")
    assert "deeper" in desk.ends("t1")["t1"].error


@pytest.mark.parametrize("is_async", [False, True])
def test_a_cancelled_task_stops_and_says_nothing_more(desk, employ, is_async):
    started, stopped = threading.Event(), threading.Event()

    def work(task, context):
        if task.task_id == "t1":
            started.set()
            assert context.cancelled.wait(20)
            stopped.set()
        return "done"

    async def work_async(task, context):
        if task.task_id == "t1":
            started.set()
            try:
                await asyncio.sleep(60)
            finally:
                assert context.cancelled.is_set()
                stopped.set()
        return "done"

    employ(desk, work_async if is_async else work, concurrency=1)
    desk.send("t1")
    assert started.wait(10)
    desk.cancel("t1")
    assert stopped.wait(10)
    desk.send("t2")
    desk.ends("t2")
    assert "completed" not in kinds(desk.reports, "t1")
    desk.until(lambda: desk.unacknowledged() == 0)


def test_a_task_cancelled_before_its_delivery_came_is_not_started(desk, employ):
    started, heard = [], threading.Event()
    key = desk.hire()
    employ(desk, lambda task, context: started.append(task.task_id), key=key)
    desk.send("warm up")
    desk.ends("warm up")
    desk.wire.subscribe("agents.*.control", lambda *_: heard.set())
    desk.cancel("t1")
    assert heard.wait(10)
    desk.send("t1")
    desk.send("t2")
    desk.ends("t2")
    assert started == ["warm up", "t2"]
    desk.until(lambda: desk.unacknowledged() == 0)


def test_a_second_delivery_of_the_same_attempt_is_not_started(desk, employ):
    started, go = [], threading.Event()

    def work(task, context):
        started.append(task.task_id)
        go.wait(20)

    employ(desk, work, concurrency=4)
    desk.send("t1")
    desk.send("t1", msg_id="again")  # past the stream's own window
    desk.heard(lambda reports: kinds(reports, "t1") == ["accepted"])
    go.set()
    desk.ends("t1")
    desk.send("t1", msg_id="and again")
    desk.send("t2")
    desk.ends("t2")
    assert started == ["t1", "t2"]
    desk.until(lambda: desk.unacknowledged() == 0)


def test_a_newer_attempt_replaces_the_one_that_runs(desk, employ):
    replaced = threading.Event()

    def work(task, context):
        if context.attempt == 1:
            assert context.cancelled.wait(20)
            replaced.set()
        return context.attempt

    employ(desk, work)
    desk.send("t1")
    desk.heard(lambda reports: kinds(reports, "t1") == ["accepted"])
    desk.send("t1", attempt=2)
    assert desk.ends("t1")["t1"].result == 2
    assert replaced.wait(10)


def test_what_is_no_task_is_thrown_away_and_the_agent_goes_on(desk, employ):
    from apps.messaging.connection import Delivery

    employ(desk, lambda task, context: "fine")
    token = desk.subjects.agent_token("acme", "ada")
    other = desk.subjects.report("acme", "t9", desk.subjects.agent_token("acme", "bo")).encode()
    own = desk.subjects.report("acme", "t9", token).encode()
    bad = [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"event_data":{},"attempt":1}',
        b'{"event_data":{},"attempt":1,"reply_subject":"%s"}' % other,
        b'{"event_data":[],"attempt":1,"reply_subject":"%s"}' % own,
        b'{"event_data":{},"attempt":0,"reply_subject":"%s"}' % own,
        b'{"event_data":{},"attempt":true,"reply_subject":"%s"}' % own,
    ]
    desk.wire.deliver([Delivery(subject=desk.subjects.deliveries(token), payload=body, msg_id=f"{n}") for n, body in enumerate(bad)])
    desk.send("t1")
    assert desk.ends("t1")["t1"].result == "fine"
    desk.until(lambda: desk.unacknowledged() == 0)
    assert len(desk.reports) == 1


def test_progress_is_reported_as_its_newest_when_there_is_much_of_it(desk, employ):
    def work(task, context):
        for step in range(5000):
            context.progress(step / 50)

    employ(desk, work)
    desk.send("t1")
    desk.ends("t1")
    reported = [report.percent for report in desk.reports if report.kind is ReportKind.PROGRESS]
    assert reported == sorted(reported)
    assert reported[-1] == pytest.approx(99.98)


def test_heartbeats_say_who_what_and_when_it_leaves(desk, employ, heartbeats):
    go = threading.Event()
    running = employ(desk, lambda task, context: go.wait(20), concurrency=3, capabilities=["python", "prose"], heartbeat_seconds=0.05)
    first = heartbeats.wait(lambda beat: True)
    assert (first["subject_id"], first["slots"], first["running"], first["leaving"]) == ("ada", 3, [], False)
    assert first["capabilities"] == ["python", "prose"]
    desk.send("t1", attempt=4)
    heartbeats.wait(lambda beat: beat["running"] == [["t1", 4]])
    running.stop()
    heartbeats.wait(lambda beat: beat["leaving"] and beat["running"])  # the lease goes on while it drains
    go.set()
    assert running.ended()
    assert len({beat["instance"] for beat in heartbeats.all}) == 1


def test_a_stopping_agent_finishes_what_runs_and_gives_the_rest_back(desk, employ):
    go, busy = threading.Event(), threading.Event()
    key = desk.hire(ack_wait_seconds=60)

    def slow(task, context):
        busy.set()
        go.wait(20)
        return "by the first"

    first = employ(desk, slow, key=key, concurrency=1)
    desk.send("t1")
    assert busy.wait(10)
    first.stop()
    desk.send("t2")
    go.set()
    assert first.ended()
    employ(desk, lambda task, context: "by the second", key=key)
    ends = desk.ends("t1", "t2")
    assert ends["t1"].result == "by the first"
    assert ends["t2"].result == "by the second"


@pytest.mark.parametrize("is_async", [False, True])
def test_what_does_not_end_in_time_is_reported_as_worth_another_try(desk, employ, is_async):
    started, let_go = threading.Event(), threading.Event()

    def work(task, context):
        started.set()
        let_go.wait(20)  # never looks at context.cancelled

    async def work_async(task, context):
        started.set()
        await asyncio.sleep(60)

    running = employ(desk, work_async if is_async else work, drain_seconds=0.05)
    desk.send("t1")
    assert started.wait(10)
    running.stop()
    assert running.ended()
    let_go.set()
    report = desk.ends("t1")["t1"]
    assert report.kind is ReportKind.FAILED
    assert report.retryable


def test_an_agent_of_the_ecosystem_needs_no_key_where_nats_asks_for_none(tmp_path, settings):
    from apps.messaging import connection
    from jobplatform_sdk import Agent
    from tests import services
    from tests.integration.messaging.conftest import Desk, Running

    server = services.nats_server(tmp_path)
    config = tmp_path / "open.conf"
    config.write_text(f'port: {server.port}\nhost: "127.0.0.1"\njetstream {{ store_dir: "{tmp_path}/js" }}\n')
    server.command[-1] = str(config)
    server.start()
    settings.NATS_URL = f"nats://127.0.0.1:{server.port}"
    connection.reset()
    desk = Desk(settings.NATS_URL)
    desk.hire()
    agent = Agent(nats_url=desk.url, org_id="acme", subject_id="ada")
    agent.handler(lambda task, context: "open")
    running = Running(agent)
    desk.send("t1")
    assert desk.ends("t1")["t1"].result == "open"
    running.stop()
    assert running.ended()
    connection.reset()
    server.kill()
