"""What docs/observability.md and docs/webhooks.md publish is what the code has."""

from __future__ import annotations

import re

from apps.core import observe_read, tracing
from apps.core.observe import METRICS, Histogram
from apps.webhooks.event_types import EVENTS
from jobplatform.env import BASE_DIR

PAGE = (BASE_DIR / "docs" / "observability.md").read_text()


def test_the_tables_of_metrics_and_spans_are_those_of_the_code():
    assert observe_read.table() in PAGE, f"docs/observability.md should hold:\n{observe_read.table()}"
    assert tracing.table() in PAGE, f"docs/observability.md should hold:\n{tracing.table()}"


def test_every_id_that_is_bound_to_log_lines_is_on_the_page():
    pages = [path for room in ("apps", "jobplatform", "workers") for path in (BASE_DIR / room).rglob("*.py") if path.name != "logs.py"]
    calls = re.findall(r"\blogs\.(?:bind|add|start)\(([^)]*)", "".join(path.read_text() for path in pages))
    names = {name for call in calls for name in re.findall(r"(\w+)=", call)}
    fields = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]+) \|", PAGE.partition("## Logs")[2], re.M))))
    assert {"request_id", "org", "work", "job"} <= names <= fields


def test_every_event_type_is_on_the_page_of_webhooks():
    page = (BASE_DIR / "docs" / "webhooks.md").read_text()
    assert [event for event, meaning in EVENTS.items() if f"| `{event}` | {meaning} |" not in page] == []


def test_names_follow_prometheus_habits():
    for metric in METRICS.values():
        assert re.fullmatch(r"jobplatform_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert ("_seconds" in metric.name) == (metric.unit == "seconds")
        assert not isinstance(metric, Histogram) or list(metric.buckets) == sorted(metric.buckets)


def test_every_metric_is_counted_somewhere():
    from apps.core import observe

    names = [name for name, value in vars(observe).items() if isinstance(value, observe.Metric)]
    pages = [path for room in ("apps", "jobplatform", "workers") for path in (BASE_DIR / room).rglob("*.py")]
    code = "".join(path.read_text() for path in pages if path.name != "observe.py")
    assert [name for name in names if f"observe.{name}" not in code] == []
