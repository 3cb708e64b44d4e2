"""Fans of no-ops to the merged result, beside raw Celery chords of the same size; and graphs beside list scheduling.

Each on a platform of its own, so that nothing else takes its cores: workers of sessions as told, no agents.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from statistics import median
from typing import Any

import psutil

from bench.measure import Wrong, kind_of
from bench.raw_celery import Yardstick
from demo.stage import Stage

ORG = "bench"
RawWorkers = Callable[..., AbstractContextManager[dict[str, int]]]
IDLE = "--without=flower"


def fanout(options: argparse.Namespace, raw_workers: RawWorkers) -> dict[str, Any]:
    """Ours and raw take turns at each size. Every item of ours is a stored row with its own state and result."""
    with _platform(options, workers=2) as stage:
        broker = stage.url("redis").rpartition("/")[0] + "/1"
        yardstick = Yardstick(broker)
        stage.ask("bench.sessions", {"org": ORG, "fan": 50})
        lines = []
        with raw_workers(stage, broker, "prefork", 1, children=2) as raw:
            yardstick.wait_for_workers(1)
            yardstick.fan(50)
            for size in options.fans:
                turns = options.repeats if size <= 10_000 else 1
                ours, theirs = [], []
                for _ in range(turns):
                    ours.append(_asked(stage, {"org": ORG, "fan": size})["seconds"])
                    if size <= options.raw_fan_max:
                        theirs.append(yardstick.fan(size))
                lines.append(_line(size, ours, theirs))
            memory = {**_memory(stage), "raw Celery": sum(_megabytes(pid) for pid in raw.values())}
    return {"workers": 2, "fans": lines, "memory_mb": memory}


def graph(options: argparse.Namespace) -> dict[str, Any]:
    """A chain, whose every node waits for the one before, and a wide graph of naps on four slots."""
    with _platform(options, workers=options.slots) as stage:
        stage.ask("bench.sessions", {"org": ORG, "fan": 50})
        chain = {"tasks": options.chain, "edges": 0, "seconds": 0.0, "slots": options.slots, "seed": options.seed, "chain": True}
        wide = {
            "tasks": options.graph_tasks, "edges": options.graph_edges, "seconds": 0.05, "slots": options.slots,
            "seed": options.seed, "chain": False,
        }  # fmt: skip
        chained = _asked(stage, {"org": ORG, "graph": chain})
        spread = _asked(stage, {"org": ORG, "graph": wide})
        memory = _memory(stage)
    return {
        "slots": options.slots,
        "chain": {
            "tasks": options.chain, "seconds": chained["seconds"],
            "ms_per_node": round(1000 * chained["seconds"] / options.chain, 2),
        },
        "graph": {
            "tasks": options.graph_tasks, "edges": options.graph_edges, "task_seconds": 0.05, "seconds": spread["seconds"],
            "ideal_seconds": round(spread["ideal"], 3), "ratio": round(spread["seconds"] / spread["ideal"], 3),
        },
        "memory_mb": memory,
    }  # fmt: skip


def _line(size: int, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    mine = median(ours)
    line: dict[str, Any] = {"items": size, "seconds": round(mine, 3), "us_per_item": round(1e6 * mine / size, 1), "all": ours}
    if theirs:
        raw = median(theirs)
        line |= {"raw_seconds": round(raw, 3), "raw_us_per_item": round(1e6 * raw / size, 1), "ratio": round(raw / mine, 2)}
    return line


def _asked(stage: Stage, wishes: dict[str, Any]) -> dict[str, Any]:
    told = stage.ask("bench.sessions", wishes)
    if told["wrong"]:
        raise Wrong("; ".join(told["wrong"]))
    return told


@contextmanager
def _platform(options: argparse.Namespace, *, workers: int) -> Iterator[Stage]:
    stage = Stage(options.data.resolve() / "sessions", variables={"TASK_PROCESSORS": "bench.processors"})
    try:
        stage.raise_platform("--workflows", str(workers), IDLE)
        stage.ask("demo.founding", {"org": ORG, "name": "Bench", "agents": {}, "keys": {"sam": "submitter"}})
        yield stage
        stage.check()
    finally:
        stage.clear()


def _memory(stage: Stage) -> dict[str, float]:
    """MB by process; of several of a kind the largest."""
    found: dict[str, float] = {}
    for name, pid in stage.stack["pids"].items():
        if name != "setup" and psutil.pid_exists(pid):
            found[kind_of(name)] = max(found.get(kind_of(name), 0.0), _megabytes(pid))
    return found


def _megabytes(pid: int) -> float:
    """Of a process and its children; where the system tells, what several share is divided among them."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return round(sum(getattr(full := one.memory_full_info(), "pss", full.rss) for one in family) / 1e6, 1)
