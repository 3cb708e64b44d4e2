"""`explain`, `simulate` and `config`."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.text import Text

from jobplatform_sdk.cli.parsing import verbs, without_verb
from jobplatform_sdk.cli.screen import Exit, Screen, clean, clock, duration, json_text, status_text
from jobplatform_sdk.client import Client

COLOURS = {"policy": "magenta", "auction": "yellow", "decision": "yellow", "assignment": "blue", "transition": "dim"}
SHOWN = 20


# ---- explain ----------------------------------------------------------------------------------------------


def explain(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    found = client.explain(options.task_id)
    if screen.json:
        screen.document(found)
        return Exit.FINE
    screen.line(Text(clean(found["task_id"]), style="bold"), status_text(found["status"]), found["summary"])
    for step in found["steps"]:
        at = clock(datetime.fromisoformat(step["at"]))
        screen.line(
            Text(f"{step['step']:>4}  {at}", style="dim"), Text(f"{step['kind']:<10}", style=COLOURS[step["kind"]]), step["summary"]
        )
        for line in _more(step):
            screen.line(Text(f"{'':>18}{clean(line)}", style="dim"))
    for line in found["cut"]:
        screen.note(line)
    if found["waiting"]:
        _waiting(found["waiting"], screen)
    return Exit.FINE


def _more(step: dict[str, Any]) -> list[str]:
    """What a person asks next: who else there was, and every bid."""
    if step["kind"] == "auction":
        not_called = ((step.get("details") or {}).get("not_called") or {}).get("agents", {})
        return [*map(_bid, step["bids"][:SHOWN]), *(f"{name}: not called, {why}" for name, why in not_called.items())]
    if step["kind"] != "assignment":
        return []
    made = step["decision"]
    lines = [f"{name}: {why}" for name, why in list({**made.get("barred", {}), **made.get("excluded", {})}.items())[:SHOWN]]
    lines += [f"{each['strategy']}: {each['why']}" for each in made.get("refusals", ()) if isinstance(each, dict)]
    return [*lines, made["tie_break"]] if made.get("tie_break") else lines


def _bid(bid: dict[str, Any]) -> str:
    if bid["outcome"] != "accepted":
        price = "" if bid.get("price") is None else f"price {bid['price']:g}, "
        return f"{bid['agent']}: {price}{bid['outcome']}, {bid['why']}"
    parts = ", ".join(f"{name} {value:g}" for name, value in bid["parts"].items())
    made_of, passed_over = f" ({parts})" if parts else "", f"; passed over: {bid['why']}" if bid["why"] else ""
    return f"{bid['place']}. {bid['agent']}: price {bid['price']:g}, score {bid['score']:g}{made_of}{passed_over}"


def _waiting(waiting: dict[str, Any], screen: Screen) -> None:
    screen.line(Text("\nWaits", style="bold"), f"for {waiting['for']}")
    for why in waiting["held_by"]:
        screen.line(Text("  held by", style="dim"), why)
    if waiting.get("position") is not None:
        screen.line(Text("  place  ", style="dim"), f"{waiting['position']} before it in its job space")
    if waiting["estimate_s"] is not None:
        screen.line(Text("  about  ", style="dim"), duration(waiting["estimate_s"]))
    elif waiting["estimate_why"]:
        screen.line(Text("  until  ", style="dim"), f"nobody can say: {waiting['estimate_why']}")


# ---- simulate ---------------------------------------------------------------------------------------------


def simulate(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    """The exit status says whether it would be accepted."""
    text = sys.stdin.read() if options.file == "-" else Path(options.file).read_text(encoding="utf-8")
    try:
        entry = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{options.file}: not JSON: {error}") from None
    if not isinstance(entry, dict):
        raise ValueError(f"{options.file}: must be an object, a task entry.")
    kind = "task"
    if set(entry) <= {"type", "data", "options"} and isinstance(entry.get("data"), dict):
        kind, entry = str(entry.get("type", "task")), entry["data"]
    found = client.simulate(
        entry, kind=kind, scripts=dict(map(_script, options.script or ())), config=dict(map(_value, options.set or ())),
        ask_bids=options.ask_bids,
    )  # fmt: skip
    if screen.json:
        screen.document(found)
    else:
        screen.line(Text(clean(found["outcome"].replace("_", " ")), style="bold"), found["summary"])
        for policy in found["policies"]:
            said = policy["error"] or json_text(policy["output"])
            screen.line(Text(f"  {policy['hook']:<14}", style="dim"), f"{policy['script_id']}@{policy['script_version']}", said)
        if (pool := found.get("candidates")) is not None:
            able = ", ".join(pool["eligible"]) or "none"
            screen.line(Text(f"  {'candidates':<14}", style="dim"), f"{pool['size']}, of them eligible: {able}")
            for name, why in list(pool["barred"].items())[:SHOWN]:
                screen.line(Text(f"  {'':<14}", style="dim"), f"{name}: {why}")
    return Exit.NOT_COMPLETED if found["outcome"] in ("rejected", "no_head_agent") else Exit.FINE


def _script(text: str) -> tuple[str, Any]:
    """`approval=approval/mine` or `approval=approval/mine@3`"""
    hook, equals, script_id = text.partition("=")
    name, at, version = script_id.rpartition("@")
    if not equals or not script_id:
        raise ValueError(f"--script {text}: write POLICY=SCRIPT or POLICY=SCRIPT@VERSION.")
    return hook, {"script_id": name, "version": int(version)} if at and version.isdigit() else script_id


def _value(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: write KEY=VALUE.")
    return key, _typed(value)


def _typed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # nobody types quotes around `auction`


# ---- config -----------------------------------------------------------------------------------------------


def config(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return CONFIG_VERBS[options.verb](options, client, screen)


def _list_config(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    found = client.config()
    wanted = [each for each in found["parameters"] if each["is_set"] or not options.changed]
    if screen.json:
        screen.document({**found, "parameters": wanted})
        return Exit.FINE
    rows = [
        (each["key"], json_text(each["value"]), json_text(each["default"]) if each["is_set"] else "", each["meaning"]) for each in wanted
    ]
    screen.table(("KEY", "VALUE", "DEFAULT", "MEANING"), rows, flexible="MEANING", shorten=("VALUE",))
    screen.note(f"version {found['version']} of {found['org_id']}")
    return Exit.FINE


def _set_config(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    value = _typed(options.value)
    changed = client.set_config(client.config()["org_id"], options.key, value, version=options.over)
    if screen.json:
        screen.document(changed)
    else:
        screen.line(options.key, "is", json_text(value))
    return Exit.FINE


def _unset_config(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    client.unset_config(options.key, version=options.over)
    if screen.json:
        screen.document({"success": True})
    else:
        screen.line(options.key, "has its default again")
    return Exit.FINE


CONFIG_VERBS = {"list": _list_config, "set": _set_config, "unset": _unset_config}


# ---- arguments --------------------------------------------------------------------------------------------

EXPLAIN_MORE = """\
Example:
  jobctl explain t-1
"""

SIMULATE_MORE = """\
Examples:
  jobctl simulate task.json
  jobctl simulate task.json --script approval=approval/mine@3 --set agent_resolution_strategy=auction

FILE is a task entry as JSON; - reads it from standard input. Exit status 1: it would be rejected, or find no agent.
"""

CONFIG_MORE = """\
Examples:
  jobctl config list --changed
  jobctl config set approval_dsl_id approval/small      (org admins)
  jobctl config set lease_seconds 60
  jobctl config unset lease_seconds
"""


def explain_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("task_id", metavar="TASK_ID")


def simulate_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("file", metavar="FILE")
    made.add_argument("--script", action="append", metavar="POLICY=SCRIPT[@VERSION]", help="ask this script instead; drafts too")
    made.add_argument("--set", action="append", metavar="KEY=VALUE", help="a configuration value instead of the org's")
    made.add_argument("--ask-bids", action="store_true", help="really call for bids; nothing is awarded")


def config_arguments(made: argparse.ArgumentParser) -> None:
    verb = verbs(made)
    listed = verb("list", "every key with its value, default and meaning")
    listed.add_argument("--changed", action="store_true", help="only what differs from the defaults")
    without_verb(made, listed)
    # As it was before there were verbs.
    made.add_argument("--changed", action="store_true", help=argparse.SUPPRESS)
    for name, summary in (("set", "give a key a value (org admins)"), ("unset", "go back to the default (org admins)")):
        changing = verb(name, summary)
        changing.add_argument("key", metavar="KEY")
        if name == "set":
            changing.add_argument("value", metavar="VALUE", help="JSON, or a text as it is")
        changing.add_argument("--over", type=int, metavar="VERSION", help="only over this version of the value (0: not set yet)")
