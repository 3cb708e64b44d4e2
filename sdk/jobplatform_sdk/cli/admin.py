"""`webhooks` and `audit`: for operators and org admins."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rich.text import Text

from jobplatform_sdk.cli.parsing import moment
from jobplatform_sdk.cli.screen import Exit, Screen, json_text
from jobplatform_sdk.client import Client

WEBHOOKS_MORE = """\
Examples:
  jobctl webhooks                                    the endpoints
  jobctl webhooks add https://erp.example.com/hook --event task.completed --event task.failed
  jobctl webhooks ping wh_0123456789abcdef
  jobctl webhooks log wh_0123456789abcdef --state failed
  jobctl webhooks replay wh_0123456789abcdef --since 2h --missed
"""
AUDIT_MORE = """\
Examples (for org admins):
  jobctl audit --kind config --since 7d
  jobctl audit --export csv > audit.csv
"""
VERBS = ("list", "add", "show", "enable", "disable", "rotate", "delete", "ping", "log", "delivery", "replay")
WITHOUT_ID = {"list", "add"}


def webhook_arguments(to: argparse.ArgumentParser) -> None:
    to.add_argument("verb", choices=VERBS, nargs="?", default="list", metavar="VERB", help=f"{', '.join(VERBS)} (default: list)")
    to.add_argument("target", metavar="ENDPOINT|URL", nargs="?", help="an endpoint's id; with add: the URL")
    to.add_argument("delivery", metavar="DELIVERY", nargs="?", help="with delivery and replay: the id of one")
    to.add_argument("--event", action="append", metavar="TYPE", help="with add: an event type, may be repeated (default: all)")
    to.add_argument("--description", default="", help="with add")
    to.add_argument("--overlap", type=int, default=86_400, metavar="SECONDS", help="with rotate: so long the old secret signs, too")
    to.add_argument("--since", type=moment, metavar="TIME", help="with replay: all that failed since then")
    to.add_argument("--missed", action="store_true", help="with replay --since: also what happened while it was disabled")
    to.add_argument("--state", choices=("pending", "delivered", "failed"), help="with log")
    to.add_argument("--limit", type=int, default=50, metavar="N", help="with log: at most so many, up to 200")


def audit_arguments(to: argparse.ArgumentParser) -> None:
    to.add_argument("--kind", action="append", help="config, api_key, role, subject, policy, webhook, task …; may be repeated")
    to.add_argument("--key", help="what was changed")
    to.add_argument("--by", help="who did it")
    to.add_argument("--since", type=moment, metavar="TIME")
    to.add_argument("--until", type=moment, metavar="TIME")
    to.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many, up to 200 (default 50)")
    to.add_argument("--export", choices=("ndjson", "csv"), help="all that match, in a file's form")


def webhooks(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    if options.verb not in WITHOUT_ID and not options.target:
        raise ValueError(f"webhooks {options.verb} needs the id of an endpoint.")
    found = _verb(options, client)
    if screen.json:
        for each in found["items"] if isinstance(found, dict) and "items" in found else [found]:
            if each is not None:
                screen.document(each)
    elif options.verb == "list":
        rows = [(e["endpoint_id"], _state(e), e["url"], ", ".join(e["events"]), e["description"]) for e in found["items"]]
        _table(screen, ("ENDPOINT", "STATE", "URL", "EVENTS", "DESCRIPTION"), rows, "URL", "no endpoints")
    elif options.verb == "log":
        rows = [
            (d["created_at"][:19], d["event"], d["task_id"] or "-", _state(d), str(d["tries"]), d["last_error"], d["delivery_id"])
            for d in found["items"]
        ]
        _table(screen, ("AT", "EVENT", "TASK", "STATE", "TRIES", "ERROR", "DELIVERY"), rows, "ERROR", "no deliveries")
    elif found is None:
        screen.line(options.target, "deleted")
    else:
        for name, value in found.items():
            screen.line(Text(f"{name:<18}", style="dim"), value if isinstance(value, str) else json_text(value))
        if "secret" in found:
            screen.note("the secret is shown this once")
    return Exit.FINE


def _verb(options: argparse.Namespace, client: Client) -> Any:
    target = options.target
    match options.verb:
        case "list":
            return client.webhooks()
        case "add":
            if not target:
                raise ValueError("webhooks add needs a URL.")
            return client.create_webhook(target, events=options.event or ["*"], description=options.description)
        case "show":
            return client.webhook(target)
        case "enable" | "disable":
            return client.update_webhook(target, enabled=options.verb == "enable")
        case "rotate":
            return client.rotate_webhook_secret(target, overlap_s=options.overlap)
        case "delete":
            return client.delete_webhook(target)
        case "ping":
            return client.ping_webhook(target)
        case "log":
            return client.webhook_deliveries(target, state=options.state, limit=options.limit)
    if options.delivery:
        one = client.webhook_delivery if options.verb == "delivery" else client.replay_webhook_delivery
        return one(target, options.delivery)
    if options.verb == "replay" and options.since:
        return client.replay_webhook(target, options.since, missed=options.missed)
    raise ValueError(f"webhooks {options.verb} needs a delivery{', or --since' if options.verb == 'replay' else ''}.")


def _state(row: dict[str, Any]) -> str:
    if "state" in row:
        return row["state"]
    return ("failing" if row["failing_since"] else "enabled") if row["enabled"] else "disabled"


def _table(screen: Screen, titles: tuple[str, ...], rows: list[Any], flexible: str, none: str) -> None:
    if rows:
        screen.table(titles, rows, flexible=flexible, shorten=())
    else:
        screen.note(none)


def audit(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    filters = {name: getattr(options, name) for name in ("kind", "key", "by", "since", "until")}
    if options.export:
        sys.stdout.write(client.audit_export(form=options.export, **filters).decode())
        return Exit.FINE
    items = client.audit(**filters, limit=options.limit)["items"]
    if screen.json:
        for each in items:
            screen.document(each)
        return Exit.FINE
    rows = [(e["at"][:19], e["kind"], e["key"], e["by"], f"{json_text(e['old'])} → {json_text(e['new'])}") for e in items]
    _table(screen, ("AT", "KIND", "WHAT", "BY", "CHANGE"), rows, "CHANGE", "no changes")
    return Exit.FINE
