"""`schedule` and its verbs."""

from __future__ import annotations

import argparse
from typing import Any

from rich.text import Text

from jobplatform_sdk.cli.parsing import NONE
from jobplatform_sdk.cli.screen import Exit, Screen, clock
from jobplatform_sdk.cli.submitting import entry_given
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_operating import Firing, Schedule
from jobplatform_sdk.client_values import Json


def schedule(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return VERBS[options.verb](options, client, screen)


def _list(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    found = client.schedules()
    if screen.json:
        for one in found:
            screen.document(one.data)
    elif found:
        rows = [(one.name, _state(one), one.when, clock(one.next, date=True)[:19], str(one.fired), one.last_task_id) for one in found]
        screen.table(("NAME", "STATE", "WHEN", "NEXT", "FIRED", "LAST TASK"), rows, flexible="LAST TASK", shorten=("NAME", "WHEN"))
    else:
        screen.note("no schedules")
    return Exit.FINE


def _state(one: Schedule) -> Text:
    if not one.enabled:
        return Text("paused", style="yellow")
    return Text("on", style="green") if one.next else Text("over", style="dim")


def _tell(one: Schedule, screen: Screen) -> int:
    if screen.json:
        screen.document(one.data)
        return Exit.FINE
    data = one.data
    screen.line(Text(one.name, style="bold"), _state(one), one.when)
    entry = data.get("entry") or {}
    facts = [
        ("about", data.get("description")),
        ("goal", entry.get("task_goal") or entry.get("goal")),
        ("overlap", data.get("overlap")),
        ("catch-up", f"{data.get('catch_up')}" + (f", at most {data.get('catch_up_max')}" if data.get("catch_up") == "all" else "")),
        ("jitter", f"up to {data['jitter_seconds']} s" if data.get("jitter_seconds") else ""),
        ("fired", f"{one.fired}, last {one.last_task_id}" if one.fired else ""),
    ]
    for name, value in facts:
        if value:
            screen.line(Text(f"  {name:<9}", style="dim"), str(value))
    for time in one.upcoming:
        screen.line(Text("  next     ", style="dim"), _time(time))
    return Exit.FINE


def _time(time: Json) -> str:
    later = f", fires {time.get('fires')}" if time.get("fires") != time.get("planned") else ""
    return f"{time.get('local')} ({time.get('planned')}{later})"


def _times(times: list[Json], screen: Screen) -> int:
    for time in times:
        if screen.json:
            screen.document(time)
        else:
            screen.line(_time(time))
    if not times and not screen.json:
        screen.note("it fires no more")
    return Exit.FINE


def _show(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return _tell(client.schedule(options.name), screen)


def _create(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    entry = {"task_priority_value": 0, **entry_given(options, needed=True)}
    if options.dry_run:
        return _times(client.preview_schedule(name=options.name, entry=entry, **_fields(options)), screen)
    return _tell(client.create_schedule(options.name, entry, **_fields(options)), screen)


def _change(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    fields = _fields(options)
    entry = entry_given(options, needed=False)
    if entry:
        # What is not named stays, as with every other field.
        fields["entry"] = entry if options.file else {**client.schedule(options.name).data.get("entry", {}), **entry}
    return _tell(client.change_schedule(options.name, **fields), screen)


def _fields(options: argparse.Namespace) -> dict[str, Any]:
    found = {
        "cron": options.cron, "every_seconds": options.every, "at": options.at, "timezone": options.timezone,
        "starts_at": options.starts, "ends_at": options.ends, "overlap": options.overlap, "catch_up": options.catch_up,
        "catch_up_max": options.catch_up_max, "jitter_seconds": options.jitter, "due_after_seconds": options.due_after,
        "description": options.description,
    }  # fmt: skip
    return {name: None if value == NONE else value for name, value in found.items() if value is not None}


def _pause(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return _tell(client.pause_schedule(options.name), screen)


def _resume(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return _tell(client.resume_schedule(options.name), screen)


def _run(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    firing = client.run_schedule(options.name)
    _firing(firing, screen)
    return Exit.FINE if firing.outcome == "fired" else Exit.NOT_COMPLETED


def _firing(firing: Firing, screen: Screen) -> None:
    if screen.json:
        screen.document(firing.data)
    else:
        screen.line(clock(firing.planned, date=True)[:19], firing.outcome, firing.task_id, firing.because)


def _delete(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    client.delete_schedule(options.name)
    if screen.json:
        screen.document({"deleted": options.name})
    else:
        screen.line(options.name, "is over; its tasks stay")
    return Exit.FINE


def _next(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return _times(client.next_times(options.name, options.count), screen)


def _history(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    found = client.firings(options.name, options.count)
    for firing in found:
        _firing(firing, screen)
    if not found and not screen.json:
        screen.note("it has not fired yet")
    return Exit.FINE


VERBS = {
    "list": _list, "show": _show, "create": _create, "change": _change, "pause": _pause, "resume": _resume, "run": _run,
    "delete": _delete, "next": _next, "history": _history,
}  # fmt: skip
