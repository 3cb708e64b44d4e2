"""What can be typed after `jobctl`, and how its help reads."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from jobplatform_sdk.cli.admin import AUDIT_MORE, WEBHOOKS_MORE, audit_arguments, webhook_arguments
from jobplatform_sdk.cli.agents import AGENTS_MORE, agent_arguments
from jobplatform_sdk.cli.arguments_operating import operating
from jobplatform_sdk.cli.arguments_sessions import SESSIONS_MORE, session_arguments
from jobplatform_sdk.cli.completion import COMPLETION_MORE
from jobplatform_sdk.cli.explaining import (
    CONFIG_MORE,
    EXPLAIN_MORE,
    SIMULATE_MORE,
    config_arguments,
    explain_arguments,
    simulate_arguments,
)  # fmt: skip
from jobplatform_sdk.cli.jobs import JOBS_MORE, job_arguments
from jobplatform_sdk.cli.parsing import Parser, common, instant, moment, seconds, sentence, span
from jobplatform_sdk.cli.policies import BACKTEST_MORE, POLICIES_MORE, backtest_arguments, policy_arguments
from jobplatform_sdk.client_values import STATUSES
from jobplatform_sdk.version import VERSION

ABOUT = """\
Submit tasks to the platform, watch them, steer them."""

MORE = """\
The platform's address and your key come from --url and --api-key, or better from the environment:
  export JOBPLATFORM_URL=http://127.0.0.1:8000
  export JOBPLATFORM_API_KEY=jp_...

Examples:
  jobctl submit --goal "Count the words" --intent "a first task" --payload '{"text": "to be"}' --wait
  jobctl bulk tasks.ndjson --watch
  jobctl watch
  jobctl tasks --open
  jobctl show t-1
  jobctl schedule create nightly --goal "Tidy up" --intent "every night" --cron "30 2 * * *"
  jobctl dead
  jobctl act cancel --prefix test- --dry-run
  jobctl sessions run session.yaml
  jobctl jobs list --status failed

With --json the output is for programs: one JSON document, or one per line where there are many, and nothing else.
Exit status: 0 fine, 1 a task did not complete, 2 wrong usage, 3 the platform said no, 4 it could not be reached.
"""

SUBMIT = """\
Submit one task. Says where the task is after at most 5 seconds, or with --wait how it ended."""

SUBMIT_MORE = """\
Examples:
  jobctl submit --goal "Count the words" --intent "a first task" --payload '{"text": "to be or not to be"}'
  jobctl submit --file task.json --task-id nightly-2026-11-22 --wait 600
  jobctl submit --goal "Send the letters" --intent "at night" --in 8h
  jobctl submit --goal "Tidy up" --intent "weekly" --set task_execution_mode=manual --json

A task submitted again under the same --task-id is the same task: repeating a command that was interrupted is safe.
"""

BULK = """\
Submit many tasks: a file with one JSON object per line (NDJSON), or - for standard input. Any size; it is never held whole."""

BULK_MORE = """\
Examples:
  jobctl bulk tasks.ndjson
  jobctl bulk tasks.ndjson --watch
  generate-tasks | jobctl bulk - --json > verdicts.ndjson

A line is a task entry: {"task_id": "t-1", "goal": "Count", "intent": "to know", "priority": 5, "payload": {...}}
Lines that are refused do not stop the others; they are listed at the end, and the exit status is 3 (invalid lines) or
1 (rejected by a policy). Give task_ids to be able to run the same file again safely.
"""

WATCH = """\
Watch tasks until they end: one with a progress bar, several in a live table. Without task ids: everything that moves
in your organization, until Ctrl-C."""

WATCH_MORE = """\
Examples:
  jobctl watch t-1
  jobctl watch t-1 t-2 t-3 --timeout 600 && echo all completed
  jobctl watch --json | grep '"failed"'

Exit status 0 only if all the given tasks completed.
"""

TASKS_MORE = """\
Examples:
  jobctl tasks
  jobctl tasks --status failed --status expired --since 24h
  jobctl tasks --open --agent ada --limit 0 --json | jq -r .task_id

Times are ISO 8601 (2026-11-22T10:00, local when they name no zone) or an age: 90s, 15m, 24h, 7d.
"""

SHOW_MORE = """\
Example:
  jobctl show t-1
"""

CANCEL_MORE = """\
Example:
  jobctl cancel t-1 t-2 --reason "not needed any more"

A running task's agent is told to stop, and whatever it still reports changes nothing.
"""

APPROVE_MORE = """\
Examples (for operators):
  jobctl tasks --status awaiting_approval
  jobctl approve t-1 --reason "looks fine"
"""

REJECT_MORE = """\
Example (for operators):
  jobctl reject t-1 --reason "too expensive"
"""


ASSIGN_MORE = """\
Examples:
  jobctl tasks --status awaiting_assignment
  jobctl assign t-1 --to ann --reason "she knows the client"
  jobctl assign t-2            (as the platform proposes)
"""

VERIFY_MORE = """\
Examples:
  jobctl verify accept t-1
  jobctl verify send_back t-2 --reason "the totals are of last year"
"""

INBOX_MORE = """\
Example:
  jobctl inbox --json | jq -r '.approvals[].task_id'

The key must speak for a subject (create_api_key --subject).
"""

PRIORITY_MORE = """\
Example (for operators):
  jobctl priority 500 t-1 t-2 --reason "the board meets today"

-1000 to 1000; the higher goes first. It takes effect at once where a task waits.
"""

QUEUE_MORE = """\
Example (for operators):
  jobctl queue

What waits in each job space, what is delayed or parked by its concurrency key, what agents have, and the pace.
"""

PAUSE_MORE = """\
Examples (for operators):
  jobctl pause --reason "the vault moves"
  jobctl pause --space reports
  jobctl resume --space reports

Tasks still come in and wait; what agents have goes on.
"""


def parser(commands: dict[str, Callable[..., int]]) -> argparse.ArgumentParser:
    """`commands`: what to run for each; ends up as `run` among the arguments."""
    top = Parser(prog="jobctl", description=ABOUT, epilog=MORE)
    top.add_argument("--version", action="version", version=f"jobctl {VERSION}")
    common(top, None)
    below = top.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    def add(name: str, summary: str, more: str, about: str = "") -> argparse.ArgumentParser:
        made = below.add_parser(name, help=summary, description=about or sentence(summary), epilog=more)
        common(made)
        made.set_defaults(run=commands[name])
        return made

    _submit(add("submit", "submit one task", SUBMIT_MORE, SUBMIT))
    _bulk(add("bulk", "submit many tasks from a file", BULK_MORE, BULK))
    _watch(add("watch", "watch tasks until they end", WATCH_MORE, WATCH))
    _tasks(add("tasks", "list tasks, newest first", TASKS_MORE))
    show = add("show", "show one task: state, times, agent and why, timeline", SHOW_MORE)
    show.add_argument("task_id", metavar="TASK_ID")
    explain_arguments(add("explain", "why a task is where it is: every decision, and what it waits for", EXPLAIN_MORE))
    simulate_arguments(add("simulate", "what would become of a task, without effect", SIMULATE_MORE))
    config_arguments(add("config", "the org's configuration: look, set, unset", CONFIG_MORE))
    for verb, summary, more in (
        ("cancel", "cancel tasks", CANCEL_MORE),
        ("approve", "let in tasks that await approval", APPROVE_MORE),
        ("reject", "refuse tasks that await approval", REJECT_MORE),
    ):
        made = add(verb, summary, more)
        made.add_argument("task_ids", metavar="TASK_ID", nargs="+")
        made.add_argument("--reason", default="", help="kept with the task")
    webhook_arguments(add("webhooks", "webhook endpoints, and what was sent to them", WEBHOOKS_MORE))
    audit_arguments(add("audit", "who changed what, newest first", AUDIT_MORE))
    policy_arguments(add("policies", "policy scripts: register, test, compare, activate", POLICIES_MORE))
    backtest_arguments(add("backtest", "what a policy script would have decided", BACKTEST_MORE))
    chosen = add("assign", "choose the head agent of tasks that wait for a person's choice", ASSIGN_MORE)
    chosen.add_argument("task_ids", metavar="TASK_ID", nargs="+")
    chosen.add_argument("--to", default="", metavar="SUBJECT", help="who shall do it (default: whom the platform proposes)")
    chosen.add_argument("--reason", default="", help="kept with the task")
    verdict = add("verify", "accept or reject results that wait for verification, or send them back", VERIFY_MORE)
    verdict.add_argument("verdict", choices=("accept", "reject", "send_back"))
    verdict.add_argument("task_ids", metavar="TASK_ID", nargs="+")
    verdict.add_argument("--reason", default="", help="kept with the task; of one sent back, a note for its next attempt")
    session_arguments(add("sessions", "sessions of task groups: run, watch, look, steer", SESSIONS_MORE))
    job_arguments(add("jobs", "jobs of views: look, watch, cancel, try again", JOBS_MORE))
    agent_arguments(add("agents", "agents: who is there, pause, drain, invite, revoke", AGENTS_MORE))
    add("inbox", "what you have to do and to decide", INBOX_MORE)
    operating(add)
    priority = add("priority", "give tasks another priority", PRIORITY_MORE)
    priority.add_argument("priority", metavar="N", type=int)
    priority.add_argument("task_ids", metavar="TASK_ID", nargs="+")
    priority.add_argument("--reason", default="", help="kept with the task")
    add("queue", "how the queue stands", QUEUE_MORE)
    for verb, summary in (("pause", "give nothing to agents for now"), ("resume", "go on giving tasks to agents")):
        made = add(verb, summary, PAUSE_MORE)
        made.add_argument("--space", metavar="ID", help="only this job space")
        made.add_argument("--reason", default="", help="shown to whoever asks why")
    add("completion", "what a shell needs to complete all this", COMPLETION_MORE)
    return top


def _submit(to: argparse.ArgumentParser) -> None:
    to.add_argument("--goal", help="what is to be achieved")
    to.add_argument("--intent", help="why")
    to.add_argument("--priority", type=int, metavar="N", help="-1000 to 1000, the higher the sooner (default 0)")
    to.add_argument("--task-id", metavar="ID", help="also makes the command safe to repeat (default: a new id)")
    to.add_argument("--payload", metavar="JSON|@FILE", help="JSON object for the agent, or @ and a file that holds it")
    to.add_argument("--space", metavar="ID", help="job space: whose agents may do it")
    to.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="any other field of an entry; VALUE is JSON or text")
    delay = to.add_mutually_exclusive_group()
    delay.add_argument("--at", type=instant, metavar="TIME", help="not before this time")
    delay.add_argument("--in", type=span, dest="delay", metavar="DURATION", help="not before so long from now: 90s, 15m, 24h, 7d")
    to.add_argument("--file", metavar="FILE", help="a whole task entry as JSON (- for standard input); the flags above override it")
    to.add_argument(
        "--wait", type=seconds, nargs="?", const=float("inf"), metavar="SECONDS", help="wait until the task has ended, at most so long"
    )


def _bulk(to: argparse.ArgumentParser) -> None:
    to.add_argument("file", metavar="FILE", help="NDJSON; - is standard input")
    to.add_argument("--watch", action="store_true", help="then watch the accepted tasks until they end")
    to.add_argument("--timeout", type=seconds, metavar="SECONDS", help="with --watch: stop watching after so long")


def _watch(to: argparse.ArgumentParser) -> None:
    to.add_argument("task_ids", metavar="TASK_ID", nargs="*")
    to.add_argument("--timeout", type=seconds, metavar="SECONDS", help="stop watching after so long")


def _tasks(to: argparse.ArgumentParser) -> None:
    to.add_argument("--status", action="append", choices=STATUSES, metavar="STATUS", help=f"may be repeated: {', '.join(STATUSES)}")
    to.add_argument("--open", action="store_true", help="all that have not ended")
    to.add_argument("--agent", metavar="ID", help="with this agent")
    to.add_argument("--space", metavar="ID", help="of this job space")
    to.add_argument("--submitter", metavar="ID", help="submitted by this subject")
    to.add_argument("--since", type=moment, metavar="TIME", help="submitted at or after")
    to.add_argument("--until", type=moment, metavar="TIME", help="submitted before")
    to.add_argument("--priority-min", type=int, metavar="N")
    to.add_argument("--priority-max", type=int, metavar="N")
    to.add_argument("--prefix", metavar="TEXT", help="task ids that begin so")
    to.add_argument("--where", metavar="JSON", help='a filter with MongoDB\'s operators, such as \'{"priority": {"$gte": 500}}\'')
    to.add_argument("--schedule", metavar="NAME", help="fired by this schedule")
    to.add_argument("--retry-of", metavar="ID", help="that do this one again")
    to.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default 50; 0: all)")
