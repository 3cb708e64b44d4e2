"""From arguments to an exit status."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from jobplatform_sdk.cli import (
    admin,
    agents,
    arguments,
    completion,
    explaining,
    jobs,
    looking,
    operating,
    policies,
    queueing,
    scheduling,
    sessions,
    submitting,
    watching,
)
from jobplatform_sdk.cli.screen import Exit, Screen
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_calls import Patience
from jobplatform_sdk.client_errors import ClientError, NotEnded, Refused

COMMANDS = {
    "submit": submitting.submit,
    "bulk": submitting.bulk,
    "watch": watching.watch,
    "tasks": looking.tasks,
    "show": looking.show,
    "explain": explaining.explain,
    "simulate": explaining.simulate,
    "config": explaining.config,
    "cancel": looking.steer,
    "approve": looking.steer,
    "reject": looking.steer,
    "webhooks": admin.webhooks,
    "audit": admin.audit,
    "policies": policies.policies,
    "backtest": policies.backtest,
    "assign": looking.steer,
    "verify": looking.steer,
    "inbox": looking.inbox,
    "dead": operating.dead,
    "retry": operating.retry,
    "discard": operating.discard,
    "act": operating.act,
    "actions": operating.actions,
    "schedule": scheduling.schedule,
    "priority": queueing.priority,
    "queue": queueing.queue,
    "pause": queueing.pause,
    "resume": queueing.resume,
    "agents": agents.agents,
    "sessions": sessions.sessions,
    "jobs": jobs.jobs,
    "completion": None,
}
"""What to run; None: it needs no platform."""

LASTING = {"bulk", "watch"}
"""Commands that outlive a restart of the platform, once they have begun."""
BRIEF, PATIENT = Patience(retries=2), Patience(retries=9)
"""Somebody who waits at the prompt wants to hear soon that nobody is there."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments.parser(COMMANDS)
    options = parser.parse_args(argv)
    screen = Screen(json=options.json)
    try:
        if options.command == "completion":
            screen.text(completion.script(parser))
            return Exit.FINE
        lasting = options.command in LASTING or (options.command in ("sessions", "jobs") and options.verb in ("run", "watch"))
        if lasting:
            with Client(options.url, options.api_key, patience=BRIEF) as client:
                next(client.tasks(limit=1), None)
        # Who enrols has no key yet: the token stands in its place.
        api_key = getattr(options, "token", None) or options.api_key
        with Client(options.url, api_key, patience=PATIENT if lasting else BRIEF) as client:
            return options.run(options, client, screen)
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain while closing standard output; so it gets another.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.BROKEN_PIPE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except ClientError as error:
        screen.error(error, task_id=_task_of(options))
        if isinstance(error, NotEnded):
            return Exit.NOT_COMPLETED
        return Exit.REFUSED if isinstance(error, Refused) else Exit.UNREACHABLE
    except OSError as error:
        screen.note(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return Exit.USAGE
    except ValueError as error:
        screen.note(str(error))
        return Exit.USAGE


def _task_of(options: argparse.Namespace) -> str:
    """The one task that the command is about."""
    ids = getattr(options, "task_ids", None) or [getattr(options, "task_id", None)]
    return ids[0] or "" if len(ids) == 1 else ""
