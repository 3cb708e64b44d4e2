"""`dead`, `retry`, `discard`, `act`, `actions`."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jobplatform_sdk.cli.screen import Exit, Screen, age, each_task, status_text
from jobplatform_sdk.cli.submitting import object_given
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_operating import ON_LETTERS, BulkAction, Preview

POLL_SECONDS = 0.3


# ---- dead letters -----------------------------------------------------------------------------------------


def dead(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    found = client.dead_letters(limit=options.limit + 1 if options.limit else None, state=options.state, **letter_filters(options))
    shown = itertools.islice(found, options.limit or None)
    if screen.json:
        for letter in shown:
            screen.document(letter.data)
    elif rows := [(one.task_id, one.kind, one.agent, age(one.at), one.retried_as, one.reason) for one in shown]:
        screen.table(("TASK", "KIND", "AGENT", "AGE", "RETRIED AS", "REASON"), rows, flexible="REASON", shorten=("TASK", "AGENT"))
    else:
        screen.note("no dead letters")
    if next(found, None) is not None:
        screen.note(f"the latest {options.limit}; there are more: --limit")
    return Exit.FINE


def letter_filters(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "kind": options.kind, "agent": options.agent, "job_space": options.space, "from_": options.since, "to": options.until,
        "q": options.prefix,
    }  # fmt: skip


def retry(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    patch = object_given(options.patch, "--patch") if options.patch else None

    def one(task_id: str) -> None:
        task = client.retry(task_id, patch=patch, exclude=options.exclude, keep_excluded=options.keep_excluded, reason=options.reason)
        if screen.json:
            screen.document(task.data)
        else:
            screen.line(task_id, "is done again as", task.task_id, status_text(task.status))

    return each_task(options.task_ids, one, screen)


def discard(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    def one(task_id: str) -> None:
        letter = client.discard(task_id, options.reason)
        if screen.json:
            screen.document(letter.data)
        else:
            screen.line(letter.task_id, letter.state)

    return each_task(options.task_ids, one, screen)


# ---- many at once -----------------------------------------------------------------------------------------


def act(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    preview = client.preview_action(options.verb, _filters(options), **_arguments(options))
    if options.dry_run or not preview.count:
        _show(options.verb, preview, screen)
        return Exit.FINE
    if not options.yes:
        _show(options.verb, preview, screen)
        if not _agreed(options.verb, preview.count, screen):
            return Exit.USAGE
    action = client.start_action(options.verb, preview.token)
    if not options.detach:
        action = _watched(action, client, screen)
    _tell(action, screen)
    return Exit.NOT_COMPLETED if action.failed or action.status == "stopped" else Exit.FINE


def _filters(options: argparse.Namespace) -> dict[str, Any]:
    if options.verb in ON_LETTERS:
        found = {name.rstrip("_"): value for name, value in letter_filters(options).items()}
        odd = {name: getattr(options, name) for name in ("status", "submitter", "schedule", "priority_min", "priority_max", "where")}
    else:
        found = {
            "status": options.status, "agent": options.agent, "job_space": options.space, "submitter": options.submitter,
            "created_from": options.since, "created_to": options.until, "priority_min": options.priority_min,
            "priority_max": options.priority_max, "q": options.prefix, "schedule": options.schedule,
            "where": options.where,
        }  # fmt: skip
        odd = {"kind": options.kind}
    if wrong := [name for name, value in odd.items() if value is not None]:
        raise ValueError(f"--{wrong[0].replace('_', '-')} does not go with {options.verb}")
    return {name: value for name, value in {**found, "task_ids": options.ids}.items() if value is not None}


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"reason": options.reason}
    if options.verb == "reprioritize":
        if options.priority is None:
            raise ValueError("reprioritize needs --priority")
        found["priority"] = options.priority
    if options.verb == "retry":
        found |= {"exclude": options.exclude, "keep_excluded": options.keep_excluded}
        if options.patch:
            found["patch"] = object_given(options.patch, "--patch")
    return found


def _show(verb: str, preview: Preview, screen: Screen) -> None:
    if screen.json:
        screen.document({"count": preview.count, "sample": list(preview.sample)})
        return
    screen.line(f"{preview.count:,} to {verb}" + (":" if preview.sample else ""))
    for one in preview.sample:
        screen.line("  ", str(one.get("task_id")), status_text(str(one.get("status") or "")), str(one.get("goal") or ""))
    if preview.count > len(preview.sample):
        screen.line(f"  … and {preview.count - len(preview.sample):,} more")


def _agreed(verb: str, count: int, screen: Screen) -> bool:
    if not sys.stdin.isatty():
        screen.note("nobody is there to ask: add --yes to carry it out, or --dry-run")
        return False
    sys.stderr.write(f"{verb} {count:,}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _watched(action: BulkAction, client: Client, screen: Screen) -> BulkAction:
    """Until it is over. Leaving off in between leaves it running."""
    counts = TextColumn("{task.completed:,.0f}/{task.total:,.0f}")
    columns = [TextColumn("{task.description}"), BarColumn(bar_width=30), counts, TimeElapsedColumn()]
    with Progress(*columns, console=screen.err, transient=True, disable=not screen.bar_is_welcome) as progress:
        bar = progress.add_task(action.verb, total=max(1, action.total))
        while not action.over:
            time.sleep(POLL_SECONDS)
            action = client.bulk_action(action.id)
            progress.update(bar, completed=action.done)
    return action


def _tell(action: BulkAction, screen: Screen) -> None:
    if screen.json:
        screen.document(action.data)
        return
    more = "".join(f", {count:,} {name}" for name, count in (("skipped", action.skipped), ("failed", action.failed)) if count)
    screen.line(action.id, f"{action.verb}: {action.status}, {action.changed:,} of {action.total:,} changed{more}")
    for problem in action.problems[:10]:
        screen.line("  ", str(problem.get("task_id")), str(problem.get("message")))


def actions(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    if options.stop and not options.action_id:
        raise ValueError("--stop needs the id of an action")
    if options.action_id:
        _tell(client.stop_action(options.action_id) if options.stop else client.bulk_action(options.action_id), screen)
        return Exit.FINE
    found = client.bulk_actions()
    if screen.json:
        for action in found:
            screen.document(action.data)
    elif found:
        rows = [(a.id, a.verb, a.status, f"{a.done:,}/{a.total:,}", f"{a.changed:,}", str(a.data.get("actor") or "")) for a in found]
        screen.table(("ID", "VERB", "STATUS", "DONE", "CHANGED", "BY"), rows, flexible="BY", shorten=())
    else:
        screen.note("no bulk actions")
    return Exit.FINE
