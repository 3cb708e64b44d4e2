"""The arithmetic of the bench, its honesty, and how it shows."""

from __future__ import annotations

import io
import os

import pytest
from rich.console import Console

from bench import ledger, report
from bench.measure import Cpu, cpu, kind_of, percentile
from tests.factories import NOON, make_task


def test_percentiles_are_values_that_were_measured():
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_numbered_processes_of_a_kind_count_together():
    names = ["dispatch-1", "dispatch-12", "web", "nats-monitor"]
    assert [kind_of(name) for name in names] == ["dispatch", "dispatch", "web", "nats-monitor"]


def test_cpu_time_is_the_difference_of_two_looks():
    before = Cpu(seconds={"web": 1.0})
    assert Cpu(seconds={"web": 1.25, "listener": 0.5}).since(before) == {"web": 0.25, "listener": 0.5}
    assert min(cpu({"us-1": os.getpid()}).seconds[who] for who in ("us", "submitter")) > 0


def ended(number, **fields):
    task = make_task(f"run-{number}")
    result = {"number": number, "received_ns": 1000 + number}
    type(task).objects.filter(pk=task.pk).update(**{"status": "completed", "attempt": 1, "result": result, "updated_at": NOON, **fields})


QUESTION = {"org": "acme", "run": "run", "count": 3}


@pytest.mark.django_db(databases="__all__")
def test_the_ledger_gives_times_in_task_order_when_every_task_is_right():
    for number in (2, 0, 1):
        ended(number)
    answer = ledger.audit(QUESTION)
    assert answer["wrong"] == []
    assert answer["received_ns"] == [1000, 1001, 1002]
    assert answer["last_recorded_ns"] == int(NOON.timestamp()) * 1_000_000_000


@pytest.mark.django_db(databases="__all__")
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"status": "failed"}, "run-1: failed"),
        ({"attempt": 2}, "attempt 2"),
        ({"result": {"number": 7, "received_ns": 1}}, "'number': 7"),
        ({"result": None}, "result None"),
    ],
)
def test_the_ledger_names_what_is_wrong(fields, told):
    ended(0)
    ended(1, **fields)
    (wrong, missing) = sorted(ledger.audit(QUESTION)["wrong"], key=lambda text: "is not there" in text)
    assert told in wrong
    assert missing == "run-2 is not there"


FIGURES = {
    "settings": {
        "cpus": 2, "python": "3.11", "versions": {"celery": "5.7.0"}, "workers": ["dispatch-1", "dispatch-2"], "policies": "default",
        "jetstream_sync_interval": "default", "redis_append_only": "everysec", "database": "SQLite",
    },
    "throughput": {
        "tasks": 5000, "celery_tasks": 3000, "workers": 2, "per_second": {"platform": 1500.0, "prefork": 650.0, "solo": 1200.0},
        "all": {"platform": [1400.0, 1500.0, 1600.0], "prefork": [650.0], "solo": [1200.0]}, "ratio_to_prefork": 2.31,
        "ratio_to_solo": 1.25, "submitted_per_second": 4000.0, "cpu_ms_per_task": {"web": 0.4, "dispatch": 0.3},
        "raw_cpu_ms_per_task": {"prefork": 2.9, "solo": 1.4},
    },
    "latency": {"per_second": 50.0, "submissions": 1000, "submit_to_agent_ms": {"p50": 8.0, "p99": 31.0}},
    "depth": {
        "tasks": 2000,
        "depths": [
            {"queued": 1000, "filled_per_second": 4000.0, "per_second": 1400.0, "cpu_ms_per_task": {"dispatch": 0.3}, "redis_mb": 3.1}
        ],
    },
    "fairness": {
        "per_second": 20.0, "flood_tasks": 8000, "flood_per_second": 700.0, "storm_per_second": 30.0,
        "p99_ratio": {"flooded": 1.37, "stormed": 1.51}, "p99_ratio_to_alone": {"flooded": 1.94, "stormed": 2.04},
        "wait_ms": {name: {"p50": 9.0, "p99": 31.0, "max": 40.0} for name in ("alone", "both_keep_to_it", "flooded", "stormed")},
    },
    "took_seconds": 100.0,
}  # fmt: skip


@pytest.mark.parametrize("parts", [("throughput", "latency", "depth", "fairness"), ("latency",)])
def test_the_report_shows_the_parts_that_were_measured(parts):
    out = io.StringIO()
    chosen = {name: value for name, value in FIGURES.items() if name in parts or name in ("settings", "took_seconds")}
    Console(file=out, width=120).print(report.shown(chosen))
    text = out.getvalue()
    assert ("2.31×" in text) == ("throughput" in parts)
    assert "p50 8.0 ms, p99 31.0 ms" in text
    assert ("100,000" in text or "1,000" in text) == ("depth" in parts)
    assert ("1.37×, 1.94× alone" in text) == ("fairness" in parts)
    assert ("1.51×, 2.04× alone" in text) == ("fairness" in parts)
    assert "celery 5.7.0" in text
