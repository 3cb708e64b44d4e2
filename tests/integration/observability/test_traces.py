"""One trace holds all of a task: from the request through policies, queue and dispatcher to the agent, and back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.core.management import call_command
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from apps.core import clock, tracing
from apps.core.auth import Principal
from apps.messaging import subjects
from apps.messaging.consumer import PullConsumer
from apps.tasks.executor import JobExecutor
from apps.tasks.intake import TaskIntake
from apps.tasks.models import Task
from apps.tasks.parser import InitialJobParser
from apps.tasks.results import ReportDesk
from jobplatform.env import BASE_DIR
from jobplatform_sdk import Agent
from tests.factories import bearer, make_agent, make_entry, make_key, make_org
from workers.listener import _read

pytestmark = pytest.mark.django_db(transaction=True)

SCRIPTS = {"approval_dsl_id": "approval/default", "auction_input_dsl_id": "auction_input/urgency"}


@pytest.fixture
def spans(monkeypatch):
    exporter = InMemorySpanExporter()
    tracing.use(exporter)
    # What an agent's author would configure.
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", lambda *names, **more: provider.get_tracer(*names, **more))
    yield exporter
    tracing.use(None)


def submitted(client, task_id: str, **headers: str) -> None:
    key = {**bearer(make_key("acme")), **headers}
    assert client.post("/api/v1/tasks", make_entry(task_id=task_id), "application/json", headers=key).status_code == 201


def worked_off(nats: str, handler) -> None:
    """Dispatch, let a real agent do it, apply its reports."""
    agent = Agent(nats_url=nats, api_key=make_key("acme", "agent", subject_id="ada"))
    agent.handler(handler)
    thread = threading.Thread(target=lambda: asyncio.run(agent.serve()), daemon=True)
    consumer = PullConsumer(subjects.REPORTS, subjects.LISTENER)
    thread.start()
    try:
        assert JobExecutor().run_batch(now=clock.now()) == 1
        while not Task.objects.filter(status="completed").exists():
            messages = consumer.fetch(10, 10.0)
            assert messages, "the agent said nothing"
            ReportDesk().apply(list(_read(messages)), now=clock.now())
            consumer.ack(messages)
    finally:
        agent.stop()
        consumer.close()
        thread.join(10)


def test_one_trace_from_the_request_to_the_agent_and_back(client, redis, nats, spans):
    make_org("acme", agent_resolution_strategy="auction", agent_resolution_fallbacks=["least_loaded"], **SCRIPTS)
    make_agent("acme", "ada")
    call_command("load_policies", verbosity=0)
    inside = []
    submitted(client, "t1")
    worked_off(nats, lambda task, context: inside.append(trace.get_current_span().get_span_context().span_id) or {"ok": True})
    found = {span.name: span for span in spans.get_finished_spans()}
    names = {"POST /api/v1/tasks", "policy approval", "task.queued", "task.dispatch", "agent.handle", "report.completed"}
    names |= {"policy auction_input", "auction"}
    assert names <= found.keys()
    assert {span.context.trace_id for span in found.values()} == {found["POST /api/v1/tasks"].context.trace_id}
    below = {name: found[name].parent.span_id for name in names if found[name].parent}
    assert below["agent.handle"] == found["task.dispatch"].context.span_id
    assert below["report.completed"] == found["agent.handle"].context.span_id
    first = ("task.queued", "policy auction_input", "auction", "task.dispatch")
    assert {below[name] for name in first} == {found["POST /api/v1/tasks"].context.span_id}
    assert inside == [found["agent.handle"].context.span_id], "the handler's own spans are below"
    assert found["agent.handle"].attributes["jobplatform.task"] == "t1"
    known = {name for _, names in tracing.SPANS.values() for name in names.split(", ")}
    assert {name for span in found.values() for name in span.attributes} <= known


def test_a_task_that_no_request_brought_begins_a_trace_of_its_own(redis, spans):
    make_org("acme")
    who = Principal(org_id="acme", role="submitter", subject_id="", key_id="", name="tests")
    TaskIntake().submit(InitialJobParser().parse(make_entry(task_id="t1")), who, now=clock.now())
    (born,) = spans.get_finished_spans()
    assert born.name == "task.born" and born.parent is None
    assert Task.objects.get().trace.split("-")[1:3] == [f"{born.context.trace_id:032x}", f"{born.context.span_id:016x}"]


def test_a_caller_with_a_trace_of_his_own_finds_the_task_in_it(client, redis, spans):
    submitted(client, "t1", traceparent=f"00-{'a1' * 16}-{'b2' * 8}-01")
    (span,) = [span for span in spans.get_finished_spans() if span.name == "POST /api/v1/tasks"]
    assert f"{span.context.trace_id:032x}" == "a1" * 16 and Task.objects.get().trace.startswith(f"00-{'a1' * 16}-")


@pytest.mark.parametrize("wrong", ["", "x", f"00-{'0' * 32}-{'b2' * 8}-01", f"00-{'A1' * 16}-{'b2' * 8}-01", "00-" + "1" * 500])
def test_what_is_no_trace_is_not_taken_for_one(wrong):
    assert tracing.read(wrong) == "" and tracing.read(None) == "" and tracing.read(7) == ""


def test_an_agent_cannot_hang_its_report_into_anothers_trace():
    ours, theirs = f"00-{'a1' * 16}-{'b2' * 8}-01", f"00-{'a2' * 16}-{'b2' * 8}-01"
    assert tracing.same_trace(ours, ours) and not tracing.same_trace(theirs, ours) and not tracing.same_trace("", "")


def test_without_a_collector_nothing_is_traced_or_stored_and_no_exporter_imported(client, redis):
    submitted(client, "t1", traceparent=f"00-{'a1' * 16}-{'b2' * 8}-01")
    assert Task.objects.get().trace == "" and tracing.span("x") is tracing.span("y")
    script = "import django; django.setup(); import sys, apps.tasks.executor; print('opentelemetry.exporter' in sys.modules)"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "jobplatform.settings", "PYTHONPATH": f"{BASE_DIR}:{BASE_DIR / 'sdk'}"}
    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, cwd=BASE_DIR)
    assert said.stdout.strip() == "False", said.stderr


class Collector(ThreadingHTTPServer):
    """Takes spans as an OpenTelemetry collector does: OTLP over HTTP."""

    daemon_threads = True

    def __init__(self) -> None:
        self.names: list[str] = []
        self.paths: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.paths.add(self.path)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    collector.names += [span.name for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


def test_a_collector_named_by_the_environment_gets_real_spans():
    collector = Collector()
    script = (
        "import django; django.setup()\n"
        "from apps.core import tracing\n"
        "with tracing.server({}):\n    print(tracing.current())\n"
    )  # fmt: skip
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    environment = {
        **os.environ, "DJANGO_SETTINGS_MODULE": "jobplatform.settings", "PYTHONPATH": f"{BASE_DIR}:{BASE_DIR / 'sdk'}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
    }  # fmt: skip
    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, cwd=BASE_DIR)
    collector.shutdown()
    collector.server_close()
    assert tracing.read(said.stdout.strip()), said.stderr
    assert (collector.names, collector.paths) == (["HTTP"], {"/v1/traces"})
