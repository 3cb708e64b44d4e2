"""What operators can type after `jobctl`: dead letters, verbs on many tasks, schedules."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from jobplatform_sdk.cli.parsing import instant, moment, or_none, seconds_of, verbs, without_verb
from jobplatform_sdk.client_values import STATUSES

KINDS = ("max_attempts", "agent_failed", "no_agent", "poison", "not_verified", "expired")
VERBS = ("cancel", "requeue", "reprioritize", "retry", "discard")

DEAD_MORE = """\
Examples (for operators):
  jobctl dead
  jobctl dead --kind poison --kind max_attempts --since 24h
  jobctl dead --state discarded --json

They stay as they ended. `retry` makes a new task of one, `discard` takes it off this list.
"""
RETRY_MORE = """\
Examples (for operators):
  jobctl retry t-1
  jobctl retry t-1 --patch '{"task_priority_value": 50}' --exclude ada --reason "a larger disk"

The new task is t-1~2, then t-1~3. Its patched entry is checked, and approved, like any other.
"""
DISCARD_MORE = """\
Example (for operators):
  jobctl discard t-1 t-2 --reason "nobody needs it any more"
"""
ACT = """\
One verb on all tasks that the filters find: counts them, shows some, asks, then shows how it goes.
cancel, requeue and reprioritize are for open tasks; retry and discard for dead letters."""
ACT_MORE = """\
Examples (for operators):
  jobctl act cancel --status queued --space lab --dry-run
  jobctl act reprioritize --prefix nightly- --priority 500 --yes
  jobctl act retry --kind no_agent --since 2h

Never more is touched than was counted; what comes later is left alone. Ctrl-C leaves it running: see jobctl actions.
"""
ACTIONS_MORE = """\
Examples (for operators):
  jobctl actions
  jobctl actions 0006... --stop
"""
SCHEDULE_MORE = """\
Examples (for operators):
  jobctl schedule create nightly --goal "Tidy up" --intent "weekly" --cron "30 2 * * *" --timezone Europe/Berlin --overlap skip
  jobctl schedule create weekdays --goal "Report" --intent "daily" --cron "0 9 * * mon-fri" --dry-run
  jobctl schedule create once --file entry.json --at 2026-12-24T18:00
  jobctl schedule list
  jobctl schedule next nightly --count 10
  jobctl schedule change nightly --every 1h --ends none
  jobctl schedule pause nightly
  jobctl schedule history nightly

Cron reads the clock of the time zone: a time the clock skips fires right after the gap, one that comes twice fires once.
"""


Add = Callable[..., argparse.ArgumentParser]


def operating(add: Add) -> None:
    dead = add("dead", "list tasks that failed or expired and wait for somebody", DEAD_MORE)
    _letter_filters(dead)
    dead.add_argument("--state", choices=("waiting", "requeued", "discarded"), help="default: waiting")
    dead.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default 50; 0: all)")

    retry = add("retry", "do dead letters again, as new tasks", RETRY_MORE)
    retry.add_argument("task_ids", metavar="TASK_ID", nargs="+")
    _retrying(retry)
    retry.add_argument("--reason", default="", help="kept with the old task")

    discard = add("discard", "take dead letters off the list", DISCARD_MORE)
    discard.add_argument("task_ids", metavar="TASK_ID", nargs="+")
    discard.add_argument("--reason", required=True, help="why nobody needs to do it")

    act = add("act", "one verb on all tasks that filters find", ACT_MORE, ACT)
    act.add_argument("verb", choices=VERBS, metavar=f"VERB ({', '.join(VERBS)})")
    act.add_argument("--status", action="append", choices=STATUSES, metavar="STATUS", help="may be repeated")
    act.add_argument("--submitter", metavar="ID")
    act.add_argument("--schedule", metavar="NAME", help="fired by this schedule")
    act.add_argument("--priority-min", type=int, metavar="N")
    act.add_argument("--priority-max", type=int, metavar="N")
    act.add_argument("--where", metavar="JSON", help="tasks by a filter with MongoDB's operators")
    _letter_filters(act)
    act.add_argument("--task", action="append", dest="ids", metavar="TASK_ID", help="only these; may be repeated")
    act.add_argument("--priority", type=int, metavar="N", help="with reprioritize: the new one")
    _retrying(act)
    act.add_argument("--reason", default="")
    act.add_argument("--dry-run", action="store_true", help="count and show some, change nothing")
    act.add_argument("--yes", action="store_true", help="do not ask")
    act.add_argument("--detach", action="store_true", help="do not wait for the end")

    actions = add("actions", "the latest bulk actions, and how far they are", ACTIONS_MORE)
    actions.add_argument("action_id", metavar="ID", nargs="?")
    actions.add_argument("--stop", action="store_true", help="begin nothing more of it")

    schedule = add("schedule", "tasks that are submitted by the clock", SCHEDULE_MORE)
    new = verbs(schedule)
    without_verb(schedule, new("list", "all schedules"))

    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        made = new(name, summary)
        made.add_argument("name", metavar="NAME")
        return made

    verb("show", "one schedule and its next times")
    create = verb("create", "a new schedule")
    _writing(create)
    create.add_argument("--dry-run", action="store_true", help="check it and show when it would fire; nothing is stored")
    _writing(verb("change", "change what is given, leave the rest"))
    for name, summary in (
        ("pause", "fire no more until resumed"), ("resume", "go on from now"), ("run", "one task now, out of turn"),
        ("delete", "end it; its tasks stay"),
    ):  # fmt: skip
        verb(name, summary)
    verb("next", "its next times").add_argument("--count", type=int, default=5, metavar="N")
    verb("history", "what became of its times").add_argument("--count", type=int, default=20, metavar="N")


def _letter_filters(to: argparse.ArgumentParser) -> None:
    to.add_argument("--kind", action="append", choices=KINDS, metavar="KIND", help=f"dead letters; may be repeated: {', '.join(KINDS)}")
    to.add_argument("--agent", metavar="ID", help="with this agent, or last with it")
    to.add_argument("--space", metavar="ID", help="of this job space")
    to.add_argument("--since", type=moment, metavar="TIME", help="submitted (dead letters: ended) at or after")
    to.add_argument("--until", type=moment, metavar="TIME", help="before")
    to.add_argument("--prefix", metavar="TEXT", help="task ids that begin so")


def _retrying(to: argparse.ArgumentParser) -> None:
    to.add_argument("--patch", metavar="JSON|@FILE", help="retry: a JSON merge patch on the entry")
    to.add_argument("--exclude", action="append", default=[], metavar="AGENT", help="retry: not to this agent; may be repeated")
    to.add_argument("--keep-excluded", action="store_true", help="retry: nor to those that failed at it")


def _writing(to: argparse.ArgumentParser) -> None:
    to.add_argument("--goal", help="of the tasks")
    to.add_argument("--intent")
    to.add_argument("--priority", type=int, metavar="N")
    to.add_argument("--payload", metavar="JSON|@FILE")
    to.add_argument("--space", metavar="ID")
    to.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="any other field of the entry")
    to.add_argument("--file", metavar="FILE", help="a whole entry as JSON (- for standard input); the flags above override it")
    when = to.add_mutually_exclusive_group()
    when.add_argument("--cron", metavar="RULE", help='"minute hour day month weekday"')
    when.add_argument("--every", type=seconds_of, metavar="SPAN", help="as 90s, 15m, 2h, 7d, or a number of seconds")
    when.add_argument("--at", type=instant, metavar="TIME", help="once")
    to.add_argument("--timezone", metavar="ZONE", help="the clock of --cron, such as Europe/Berlin (default UTC)")
    to.add_argument("--starts", type=or_none(instant), metavar="TIME", help="not before; none: at once")
    to.add_argument("--ends", type=or_none(instant), metavar="TIME", help="not after; none: never")
    to.add_argument("--overlap", choices=("allow", "skip", "cancel_previous"), help="while an earlier task is open (default allow)")
    to.add_argument("--catch-up", choices=("skip", "one", "all"), help="after the platform was away (default one)")
    to.add_argument("--catch-up-max", type=int, metavar="N")
    to.add_argument("--jitter", type=seconds_of, metavar="SPAN", help="fire up to so much later")
    to.add_argument("--due-after", type=or_none(seconds_of), metavar="SPAN", help="deadline of each task; none: it has none")
    to.add_argument("--description")
