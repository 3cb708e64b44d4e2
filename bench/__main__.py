"""`python -m bench`: fans and graphs of sessions, throughput beside raw Celery, submit→agent latency, cost by queue depth, a
backtest, and the market: routing with many candidates, and simulated choices against an oracle. `python -m bench market` runs
one part.

Writes var/bench/latest.json."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

from rich.console import Console

from bench import report
from bench.fairness import fairness
from bench.fanout import fanout, graph
from bench.house import ORG, House
from bench.jobs import jobs
from bench.measure import Wrong, cpu, percentile
from bench.raw_celery import QUEUE, Yardstick
from demo.stage import ROOT, Broken, Process, Stage

PARTS = ("fanout", "graph", "throughput", "latency", "depth", "fairness", "backtest", "market", "jobs")
DEPTHS = (1_000, 10_000, 100_000)


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _as_interrupt)
    stage = Stage(options.data.resolve() / "platform")
    began = time.monotonic()
    try:
        wanted = list(dict.fromkeys([*options.parts, *(options.only or ())])) or list(PARTS)
        figures: dict[str, Any] = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        for part in [part for part in wanted if part in ALONE]:
            console.print(f"Measuring {part} …", style="bright_black")
            figures[part] = ALONE[part](options)
        house = None
        for part in [part for part in wanted if part in MEASURES]:
            if house is None:
                console.print("Raising the platform …", style="bright_black")
                house = House(stage)
            console.print(f"Measuring {part} …", style="bright_black")
            figures[part] = MEASURES[part](house, options)
            stage.check()
        figures["settings"] = report.settings(stage)
    except (Broken, Wrong) as problem:
        console.print(f"The bench failed: {problem}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stage.clear()
    figures["took_seconds"] = round(time.monotonic() - began, 1)
    console.print(report.shown(figures))
    (options.data / "latest.json").write_text(json.dumps(figures, indent=2) + "\n")
    console.print(f"Written to {os.path.relpath(options.data / 'latest.json')}", style="bright_black")
    return 0


def throughput(house: House, options: argparse.Namespace) -> dict[str, Any]:
    """All three take turns, so that a machine that drifts drifts for all of them."""
    workers = house.stage.stack["pids"]
    dispatchers = sum(name.startswith("dispatch") for name in workers)
    broker = house.stage.url("redis").rpartition("/")[0] + "/1"
    yardstick = Yardstick(broker)
    rates: dict[str, list[float]] = {"prefork": [], "solo": [], "platform": []}
    raw_cpu: dict[str, list[float]] = {"prefork": [], "solo": []}
    bulks = []
    for turn in range(options.repeats):
        for pool, processes in (("prefork", 1), ("solo", dispatchers)):
            with _raw_workers(house.stage, broker, pool, processes, children=dispatchers) as pids:
                yardstick.wait_for_workers(processes)
                yardstick.rate(100)
                before = cpu({**pids, "redis": workers["redis"]})
                rates[pool].append(yardstick.rate(options.celery_tasks))
                used = cpu({**pids, "redis": workers["redis"]}).since(before)
                raw_cpu[pool].append(1000 * sum(used.values()) / options.celery_tasks)
        bulks.append(house.bulk(f"bulk{turn}", options.tasks))
        rates["platform"].append(bulks[-1].rate)
    middle = {name: round(median(found), 1) for name, found in rates.items()}
    return {
        "tasks": options.tasks,
        "celery_tasks": options.celery_tasks,
        "workers": dispatchers,
        "per_second": middle,
        "all": {name: [round(rate, 1) for rate in found] for name, found in rates.items()},
        "ratio_to_prefork": round(middle["platform"] / middle["prefork"], 2),
        "ratio_to_solo": round(middle["platform"] / middle["solo"], 2),
        "submitted_per_second": round(median(bulk.tasks / bulk.submit_seconds for bulk in bulks), 1),
        "cpu_ms_per_task": _cpu_per_task(bulks),
        "raw_cpu_ms_per_task": {pool: round(median(found), 3) for pool, found in raw_cpu.items()},
    }


def latency(house: House, options: argparse.Namespace) -> dict[str, Any]:
    house.paced("warmpace", per_second=options.pace, seconds=1.0)
    found = house.paced("pace", per_second=options.pace, seconds=options.seconds)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {
        "per_second": options.pace,
        "submissions": len(found),
        "submit_to_agent_ms": {name: round(percentile(found, share), 2) for name, share in shares.items()},
    }


def depth(house: House, options: argparse.Namespace) -> dict[str, Any]:
    """The same work with more and more tasks waiting in the same org, in the job space of an agent that is away."""
    queued, lines = 0, []
    for deep in options.depths:
        began = time.perf_counter()
        house.queue_up(f"deep{deep}", deep - queued)
        filled = time.perf_counter() - began
        bulks = [house.bulk(f"at{deep}turn{turn}", options.depth_tasks) for turn in range(options.repeats)]
        lines.append(
            {
                "queued": deep,
                "filled_per_second": round((deep - queued) / filled, 1),
                "per_second": round(median(bulk.rate for bulk in bulks), 1),
                "cpu_ms_per_task": _cpu_per_task(bulks),
                "redis_mb": round(house.redis_mb(), 1),
            }
        )
        queued = deep
    return {"tasks": options.depth_tasks, "depths": lines}


def backtest(house: House, options: argparse.Namespace) -> dict[str, Any]:
    """Recorded decisions asked again of a draft, by the platform's own worker."""
    return house.stage.ask("bench.recorded", {"org": ORG, "count": options.recorded})


def market(house: House, options: argparse.Namespace) -> dict[str, Any]:
    """Routing decisions with many candidates, and a simulated market against an oracle that knows every true cost."""
    stage = house.stage
    with tempfile.TemporaryDirectory(dir=stage.data) as directory:
        own = {
            "REDIS_URL": f"{stage.url('redis').rpartition('/')[0]}/2",
            "NATS_URL": stage.url("nats"),
            "DATABASE_URL": f"sqlite:///{directory}/routing.sqlite3",
        }
        bidders = stage.start_agent("bench.bidders", **own)
        bidders.wait_ready()
        wishes = {"candidates": options.candidates, "decisions": options.decisions, "auctions": max(10, options.decisions // 3)}
        timed = stage.ask("bench.routing", wishes, **own)
        stage.agents.remove(bidders)
        bidders.ask_to_stop()
        bidders.wait_stopped(5.0)
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    routing = {
        name: {
            **{at: round(percentile(found["wall"], share), 1) for at, share in shares.items()},
            **{f"cpu_{at}": round(percentile(found["cpu"], share), 1) for at, share in shares.items()},
        }
        for name, found in timed.items()
    }
    simulated = stage.ask("bench.market", {"tasks": options.simulated, "agents": 40, "seed": options.seed})
    if simulated["ineligible"]:
        raise Wrong(f"the market chose {simulated['ineligible']} ineligible agents")
    return {"candidates": options.candidates, "decisions": options.decisions, "routing_ms": routing, "simulated": simulated}


def fair(house: House, options: argparse.Namespace) -> dict[str, Any]:
    return fairness(house, per_second=options.fair_pace, seconds=options.fair_seconds, flood=options.flood)


MEASURES = {"throughput": throughput, "latency": latency, "depth": depth, "fairness": fair, "backtest": backtest, "market": market}


ALONE = {"fanout": lambda options: fanout(options, _raw_workers), "graph": graph, "jobs": jobs}
"""Each raises a platform of its own."""


@contextlib.contextmanager
def _raw_workers(stage: Stage, broker: str, pool: str, processes: int, *, children: int) -> Iterator[dict[str, int]]:
    """Their pids. As `celery worker` starts them: only pool, concurrency, queue and name are given."""
    environment = {**stage.environment, "RAW_BROKER": broker}
    argv = [sys.executable, "-m", "celery", "-A", "bench.raw_celery", "worker", "-P", pool, "-Q", QUEUE]
    more = ["-c", str(children)] if pool == "prefork" else []
    workers = [Process(f"raw Celery {number}", [*argv, *more, "-n", f"raw{number}@%h"], environment) for number in range(processes)]
    try:
        yield {f"raw-{number}": worker.pid for number, worker in enumerate(workers)}
    except Wrong as problem:
        raise Wrong(f"{problem}. Their last words:\n" + "\n".join(worker.last_words() for worker in workers)) from None
    finally:
        for worker in workers:
            worker.ask_to_stop()
        for worker in workers:
            worker.wait_stopped(10.0)


def _cpu_per_task(bulks: Sequence[Any]) -> dict[str, float]:
    kinds = sorted({kind for bulk in bulks for kind in bulk.cpu})
    middle = {kind: median(1000 * bulk.cpu[kind] / bulk.tasks for bulk in bulks) for kind in kinds}
    return {kind: round(value, 3) for kind, value in sorted(middle.items(), key=lambda pair: -pair[1])}


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all when none is named")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; may be given again")
    parser.add_argument("--data", type=Path, default=ROOT / "var" / "bench", help="where to work and write (default: var/bench)")
    parser.add_argument("--tasks", type=int, default=5_000, help="of one bulk submission (default %(default)s)")
    parser.add_argument("--celery-tasks", type=int, default=3_000, help="no-ops for raw Celery (default %(default)s)")
    parser.add_argument("--depth-tasks", type=int, default=2_000, help="measured at each depth (default %(default)s)")
    parser.add_argument("--depths", type=lambda text: tuple(map(int, text.split(","))), default=DEPTHS, help="waiting tasks, growing")
    parser.add_argument("--recorded", type=int, default=100_000, help="decisions of the backtest (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="medians are of so many (default %(default)s)")
    parser.add_argument("--fair-pace", type=float, default=20.0, help="submissions a second of each org (default %(default)s)")
    parser.add_argument("--fair-seconds", type=float, default=15.0, help="of them (default %(default)s)")
    parser.add_argument("--flood", type=int, default=20_000, help="tasks of the org that floods (default %(default)s)")
    parser.add_argument("--pace", type=float, default=50.0, help="single submissions a second (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of single submissions (default %(default)s)")
    parser.add_argument("--candidates", type=int, default=1_000, help="agents a routing decision chooses from (default %(default)s)")
    parser.add_argument("--decisions", type=int, default=100, help="routing decisions of each strategy (default %(default)s)")
    fans = (1_000, 10_000, 100_000)
    parser.add_argument("--fans", type=lambda text: tuple(map(int, text.split(","))), default=fans, help="items of the fans")
    parser.add_argument("--raw-fan-max", type=int, default=10_000, help="no raw chord of more (100,000: minutes; default %(default)s)")
    parser.add_argument("--chain", type=int, default=200, help="tasks of the chain (default %(default)s)")
    parser.add_argument("--graph-tasks", type=int, default=2_000, help="of 50 ms each (default %(default)s)")
    parser.add_argument("--graph-edges", type=int, default=10_000, help="(default %(default)s)")
    parser.add_argument("--slots", type=int, default=4, help="workers of the graph (default %(default)s)")
    parser.add_argument("--job-singles", type=int, default=50, help="jobs one after the other, in each turn (default %(default)s)")
    parser.add_argument("--job-batch", type=int, default=500, help="jobs submitted in a row, in each turn (default %(default)s)")
    parser.add_argument("--jobs-at-once", type=int, default=1_000, help="jobs from many threads (default %(default)s)")
    parser.add_argument("--simulated", type=int, default=400, help="tasks of the simulated market (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated market (default %(default)s)")
    options = parser.parse_args(argv)
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    return options


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
