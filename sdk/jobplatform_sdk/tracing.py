"""The agent's part of a task's trace, where OpenTelemetry is installed (`pip install './sdk[otel]'`).

A delivery that brings a `traceparent` is handled inside a span `agent.handle` below it, and reports carry that span's
context back. Spans go wherever the program's tracer provider sends them; when it has none and OTEL_EXPORTER_OTLP_ENDPOINT is
set, there. Deliveries without a trace, and agents without OpenTelemetry, cost nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from jobplatform_sdk.task import Task

_set_up = False


def handling(task: Task, agent: str) -> AbstractContextManager[str]:
    """Around a handler; gives the traceparent that reports bring back, "" when there is no trace."""
    return _span(task, agent) if task.trace else nullcontext("")


@contextmanager
def _span(task: Task, agent: str) -> Iterator[str]:
    try:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        yield task.trace
        return
    _use_the_environment()
    names = {"org": task.org_id, "task": task.task_id, "attempt": task.attempt, "agent": agent}
    below = TraceContextTextMapPropagator().extract({"traceparent": task.trace})
    attributes = {f"jobplatform.{name}": value for name, value in names.items()}
    tracer = trace.get_tracer("jobplatform_sdk")
    with tracer.start_as_current_span("agent.handle", context=below, kind=trace.SpanKind.CONSUMER, attributes=attributes) as span:
        context = span.get_span_context()
        yield f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _use_the_environment() -> None:
    """Once: an agent that configured nothing itself sends its spans where the environment says."""
    global _set_up
    if _set_up:
        return
    _set_up = True
    from opentelemetry import trace

    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return
    provider = TracerProvider(resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "jobplatform-agent")}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
