"""`queue`, and the verbs that act on it: `pause`, `resume`, `priority`."""

from __future__ import annotations

import argparse
from typing import Any

from rich.text import Text

from jobplatform_sdk.cli.screen import Exit, Screen, each_task, status_text
from jobplatform_sdk.client import Client


def queue(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return _shown(client.queue(), screen)


def pause(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return _shown(client.pause_queue(options.reason, job_space=options.space), screen)


def resume(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return _shown(client.resume_queue(options.reason, job_space=options.space), screen)


def priority(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    def one(task_id: str) -> None:
        task = client.set_priority(task_id, options.priority, options.reason)
        if screen.json:
            screen.document(task.data)
        else:
            screen.line(task.task_id, status_text(task.status), f"priority {task.priority}")

    return each_task(options.task_ids, one, screen)


def _shown(found: dict[str, Any], screen: Screen) -> int:
    if screen.json:
        screen.document(found)
        return Exit.FINE
    paused = found.get("paused")
    if isinstance(paused, dict):
        since = f"since {paused['since']}" if paused.get("since") else ""
        by = f"by {paused['by']}" if paused.get("by") else ""
        screen.line(Text("paused", style="bold yellow"), str(paused.get("reason") or ""), since, by)
    counts = [f"{found[name]} {name.replace('_', ' ')}" for name in ("waiting", "delayed", "parked", "in_flight") if name in found]
    most = f"at most {found['max_inflight']}" if found.get("max_inflight") else ""
    screen.line(", ".join(counts), most)
    if found.get("oldest_wait_s") is not None:
        screen.line(f"the oldest waits {found['oldest_wait_s']:g} s; {found.get('per_minute', 0):g} a minute go to agents")
    lanes = [lane for lane in found.get("lanes", []) if isinstance(lane, dict)]
    if lanes:
        titles = ("JOB SPACE", "WAITING", "A MINUTE", "NEXT", "WAITS", "")
        screen.table(titles, [_lane(lane) for lane in lanes], flexible="NEXT", shorten=("JOB SPACE",))
    keys = [key for key in found.get("keys", []) if isinstance(key, dict)]
    if keys:
        rows = [(str(key.get("key")), str(key.get("parked"))) for key in keys]
        screen.table(("CONCURRENCY KEY", "PARKED"), rows, flexible="CONCURRENCY KEY", shorten=())
    again = found.get("reordering")
    if isinstance(again, dict) and again.get("running"):
        screen.line(f"asking {again.get('script') or 'for no script'} again: {again.get('looked_at')} of {again.get('of_about')}")
    return Exit.FINE


def _lane(lane: dict[str, Any]) -> tuple[str, ...]:
    waits = "" if lane.get("next_wait_s") is None else f"{lane['next_wait_s']:g} s"
    return (
        str(lane.get("job_space_id") or "(none)"),
        str(lane.get("waiting", "")),
        f"{lane.get('per_minute', 0):g}",
        str(lane.get("next_task_id") or ""),
        waits,
        "paused" if lane.get("paused") else "",
    )
