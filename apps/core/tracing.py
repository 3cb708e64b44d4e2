"""Traces: OpenTelemetry, when OTEL_EXPORTER_OTLP_ENDPOINT says where they go; else nothing is imported, made or kept.

One trace holds all of a task. Its context, a W3C `traceparent`, is stored with the task when it is born (`Task.trace`, empty
without tracing) and travels with the delivery, in a NATS header and in the envelope; the agent's SDK goes on with it and
sends its own back in the report. What happens in a batch is told of each task afterwards (`tell`), with the batch's times.

The door to `opentelemetry`. Names of spans and their attributes are in SPANS, which docs/observability.md shows.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Any

from django.conf import settings

log = logging.getLogger(__name__)

SPANS: dict[str, tuple[str, str]] = {
    "<METHOD> <route>": ("a request to the platform", "http.request.method, http.route, http.response.status_code, jobplatform.request_id"),
    "policy <hook>": (
        "in a request: scripts asked, one batch; in a dispatcher: the script asked about this task",
        "jobplatform.hook, jobplatform.count, jobplatform.org, jobplatform.task, jobplatform.attempt",
    ),
    "task.born": ("a task that no request brought: of a schedule, a session or an event", "jobplatform.org, jobplatform.task"),
    "task.queued": ("in the queue, until a dispatcher took it", "jobplatform.org, jobplatform.task, jobplatform.attempt"),
    "auction": (
        "the call for bids, until it was decided",
        "jobplatform.org, jobplatform.task, jobplatform.attempt, jobplatform.called, jobplatform.bids",
    ),
    "task.dispatch": (
        "in a Celery worker: from the choice of the agent to NATS; the agent's span is below it",
        "jobplatform.org, jobplatform.task, jobplatform.attempt, jobplatform.agent, messaging.system",
    ),
    "agent.handle": ("in the agent: its handler at work", "jobplatform.org, jobplatform.task, jobplatform.attempt, jobplatform.agent"),
    "report.<type>": (
        "in the listener: what the agent said, applied",
        "jobplatform.org, jobplatform.task, jobplatform.attempt, jobplatform.agent",
    ),
}
"""Name → (meaning, attributes)."""

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_NOTHING: AbstractContextManager[Any] = nullcontext()
_lock = threading.Lock()
_provider: Any = None
_off = not settings.OTEL_EXPORTER_OTLP_ENDPOINT


def on() -> bool:
    return not _off


def use(exporter: Any | None) -> None:
    """Trace to that exporter at once, span by span; None: as the settings say (tests)."""
    global _provider, _off
    _provider, _off = None, exporter is None and not settings.OTEL_EXPORTER_OTLP_ENDPOINT
    if exporter is not None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        _provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        _provider.add_span_processor(SimpleSpanProcessor(exporter))


def _tracer() -> Any:
    global _provider
    if _provider is None:
        with _lock:
            if _provider is None:
                _provider = _made()
    return _provider.get_tracer("jobplatform")


def _made() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=_resource())
    # The exporter reads OTEL_EXPORTER_OTLP_ENDPOINT and its relatives itself, as every OpenTelemetry program does.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _resource() -> Any:
    from opentelemetry.sdk.resources import Resource

    return Resource.create({"service.name": "jobplatform", "process.pid": os.getpid()})


def _context(traceparent: str) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}) if traceparent else None


def _written(context: Any) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}" if context.is_valid else ""


def read(text: Any) -> str:
    """A traceparent that came from outside; "" when it is none."""
    return text if isinstance(text, str) and _TRACEPARENT.fullmatch(text) else ""


def same_trace(one: str, other: str) -> bool:
    return bool(one) and one[:35] == other[:35]


def current() -> str:
    """The traceparent of the span we are in; "" when there is none."""
    if _off:
        return ""
    from opentelemetry import trace

    return _written(trace.get_current_span().get_span_context())


def span(name: str, *, attributes: Mapping[str, Any] | None = None) -> AbstractContextManager[Any]:
    """Below the span we are in; nothing (not even an object) when tracing is off, or where there is none to be below: what a
    worker does for many tasks at once is told of each (`tell`)."""
    return _tracer().start_as_current_span(name, attributes=attributes) if current() else _NOTHING


@contextmanager
def _server(traceparent: str) -> Iterator[Any]:
    from opentelemetry.trace import SpanKind

    with _tracer().start_as_current_span("HTTP", context=_context(traceparent), kind=SpanKind.SERVER) as found:
        yield found


def server(headers: Mapping[str, str]) -> AbstractContextManager[Any]:
    """Around a request; goes on with the caller's trace when he sent one. Gives the span, None when tracing is off."""
    return _NOTHING if _off else _server(read(headers.get("HTTP_TRACEPARENT")))


def tell(
    name: str, parent: str, *, start: datetime, end: datetime, attributes: Mapping[str, Any], consumer: bool = False
) -> str:  # fmt: skip
    """A span that is over, below `parent`; its traceparent. Without tracing, or a parent: the parent, untouched."""
    if _off or not parent:
        return parent
    from opentelemetry.trace import SpanKind

    kind = SpanKind.CONSUMER if consumer else SpanKind.INTERNAL
    start_ns, end_ns = (int(at.timestamp() * 1e9) for at in (start, max(start, end)))
    made = _tracer().start_span(name, context=_context(parent), kind=kind, attributes=attributes, start_time=start_ns)
    made.end(end_time=end_ns)
    return _written(made.get_span_context())


def begin(name: str, *, at: datetime, attributes: Mapping[str, Any]) -> str:
    """The span we are in, else a new trace that begins with a moment of that name; its traceparent. "" without tracing."""
    if _off or current():
        return current()
    at_ns = int(at.timestamp() * 1e9)
    made = _tracer().start_span(name, attributes=attributes, start_time=at_ns)
    made.end(end_time=at_ns)
    return _written(made.get_span_context())


def of_task(task: Any, **more: Any) -> dict[str, Any]:
    """Attributes that name an attempt at a task."""
    return {"jobplatform.org": task.org_id, "jobplatform.task": task.task_id, "jobplatform.attempt": task.attempt, **more}


def table() -> str:
    """The spans as docs/observability.md shows them."""
    rows = ["| span | meaning | attributes |", "|---|---|---|"]
    for name, (meaning, names) in SPANS.items():
        attributes = ", ".join(f"`{each}`" for each in names.split(", "))
        rows.append(f"| `{name}` | {meaning} | {attributes} |")
    return "\n".join(rows)
