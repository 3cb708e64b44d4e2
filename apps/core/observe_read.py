"""The counted metrics as Prometheus reads them, and the table of them as people do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from apps.core import observe, redis
from apps.core.observe import METRICS, SEPARATOR, SUM, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Samples = Mapping[str, Mapping[tuple[str, ...], float]]
"""Metric name → label values → number."""


def counted() -> Iterator[Family]:
    """From Redis. Raises RedisDown."""
    found: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    for series, number in redis.client().hgetall(observe.key()).items():
        name, *rest = series.split(SEPARATOR)
        metric = METRICS.get(name)
        # Another release's series, while both run: its own processes show it.
        if metric is not None and len(rest) == len(metric.labels) + isinstance(metric, Histogram):
            found[name][tuple(rest)] = float(number)
    for name, metric in METRICS.items():
        if metric.kind == "counter":
            family = CounterMetricFamily(name, metric.meaning, labels=metric.label_names)
            for labels, number in sorted(found[name].items()):
                family.add_metric(labels, number)
            yield family
        elif isinstance(metric, Histogram):
            yield _histogram(metric, found[name])


def _histogram(metric: Histogram, found: Mapping[tuple[str, ...], float]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.label_names)
    bounds = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
    for labels in sorted({series[:-1] for series in found}):
        total, buckets = 0.0, []
        for bound in bounds:
            total += found.get((*labels, bound), 0.0)
            buckets.append((bound, total))
        family.add_metric(labels, buckets, sum_value=found.get((*labels, SUM), 0.0))
    return family


def gauges(samples: Samples) -> Iterator[Family]:
    for name, values in samples.items():
        metric = METRICS[name]
        family = GaugeMetricFamily(name, metric.meaning, labels=metric.label_names)
        for labels, number in sorted(values.items()):
            family.add_metric(labels, number)
        yield family


def exposition(families: Iterable[Family]) -> bytes:
    """Prometheus' text format."""
    return generate_latest(_Collected(list(families)))


class _Collected:
    """As prometheus_client wants it."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> list[Family]:
        return self._families


def table() -> str:
    """The metrics as docs/observability.md shows them."""
    rows = ["| name | kind | unit | labels | meaning |", "|---|---|---|---|---|"]
    for metric in METRICS.values():
        labels = "<br>".join(f"`{name}`: {values}" for name, values in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.meaning} |")
    return "\n".join(rows)
