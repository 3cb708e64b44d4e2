"""`policies` and `backtest`: scripts from draft to active, and what a draft would have decided."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rich.text import Text

from jobplatform_sdk.cli.parsing import moment
from jobplatform_sdk.cli.screen import Exit, Screen
from jobplatform_sdk.client import Client

POLICIES_MORE = """\
Examples:
  jobctl policies                                             the scripts, and which version answers
  jobctl policies register approval/small small.star --hook approval      (org admins; with small.tests.json beside it)
  jobctl policies register approval/small small.star --hook approval --activate
  jobctl policies test approval/small
  jobctl policies diff approval/small
  jobctl policies activate approval/small 2                   (org admins; refused when its tests fail)
"""
BACKTEST_MORE = """\
Examples:
  jobctl backtest approval/small                              the newest version on the newest 10,000 decisions
  jobctl backtest approval/small --version 3 --since 7d --limit 100000
  jobctl backtest approval/small --task t-1 --task t-2 --json

Exit status 1 when the backtest could not be finished.
"""
VERBS = ("list", "show", "register", "test", "diff", "activate", "retire")
LOOK_SECONDS = 0.5
SHOWN = 20
HOOKS = ("approval", "priority", "auction_input", "plan_retrieve")


def policy_arguments(to: argparse.ArgumentParser) -> None:
    to.add_argument("verb", choices=VERBS, nargs="?", default="list", metavar="VERB", help=f"{', '.join(VERBS)} (default: list)")
    to.add_argument("script_id", metavar="SCRIPT_ID", nargs="?")
    to.add_argument("what", metavar="FILE|VERSION", nargs="?", help="register: the file; otherwise the version")
    to.add_argument("--hook", choices=HOOKS, help="with register and list: the question")
    to.add_argument("--activate", action="store_true", help="with register: it answers from now on, when its tests pass")
    to.add_argument("--tests", type=Path, metavar="FILE", help="with register and test: JSON list of name, input, expect")


def backtest_arguments(to: argparse.ArgumentParser) -> None:
    to.add_argument("script_id", metavar="SCRIPT_ID")
    to.add_argument("--version", type=int, metavar="N", dest="script_version", help="of the script (default: the newest)")
    to.add_argument("--since", type=moment, metavar="TIME", help="decisions recorded since then")
    to.add_argument("--until", type=moment, metavar="TIME", help="and before then")
    to.add_argument("--limit", type=int, metavar="N", help="the newest so many (default 10000)")
    to.add_argument("--task", action="append", metavar="TASK_ID", help="only of this task; may be given again")


def policies(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    if options.verb == "list":
        return _list(options, client, screen)
    if not options.script_id:
        raise ValueError(f"policies {options.verb} needs a script id.")
    if options.verb == "register":
        return _register(options, client, screen)
    version = _version(options.what)
    if options.verb == "test":
        return _test(options, client, screen, version)
    if options.verb == "show":
        found = client.policy(options.script_id, version=version)
    elif options.verb == "diff":
        found = client.diff_policy(options.script_id, new=version)
    else:
        if version is None:
            raise ValueError(f"policies {options.verb} needs a version.")
        change = client.activate_policy if options.verb == "activate" else client.retire_policy
        found = change(options.script_id, version)
    if screen.json:
        screen.document(found)
    elif options.verb == "show":
        screen.line(f"{found['script_id']}@{found['version']}", found["hook"], found["status"], f"{found['tests_count']} tests")
        for line in found["source"].splitlines():
            screen.line(Text(line))
    elif options.verb == "diff":
        for line in found["diff"].splitlines() or ["the texts are the same"]:
            screen.line(Text(line, style={"+": "green", "-": "red"}.get(line[:1], "")))
    else:
        screen.line(f"{found['script_id']}@{found['version']}", found["status"])
        _named(found, screen)
    return Exit.FINE


def _named(found: dict[str, Any], screen: Screen) -> None:
    """What its owner may have forgotten."""
    keys = ", ".join(found.get("named_by") or ())
    if keys and found.get("active_version") is None:
        screen.note(f"{keys} names it, and no version of it is active: its question has no answer")
    elif found["status"] == "active" and not keys and "named_by" in found:
        screen.note("no configuration key names it: only tasks that name it are answered by it")


def _list(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    items, cursor = [], None
    while True:
        page = client.policies(hook=options.hook, cursor=cursor)
        items += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            break
    if screen.json:
        for each in items:
            screen.document(each)
        return Exit.FINE
    rows = []
    for each in items:
        versions = (str(each["active_version"] or "-"), str(each["latest_version"]))
        rows.append((each["script_id"], each["hook"], *versions, "built in" if each["built_in"] else ""))
    if rows:
        screen.table(("SCRIPT", "HOOK", "ACTIVE", "NEWEST", ""), rows, flexible="SCRIPT", shorten=())
    else:
        screen.note("no scripts")
    return Exit.FINE


def _register(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    if not options.what or not options.hook:
        raise ValueError("policies register needs a file and --hook.")
    file = Path(options.what)
    beside = file.with_suffix(".tests.json")
    tests = options.tests or (beside if beside.exists() else None)
    made = client.register_policy(
        options.script_id,
        hook=options.hook,
        source=file.read_text(encoding="utf-8"),
        tests=_tests(tests) if tests else None,
        activate=options.activate or None,
    )
    if screen.json:
        screen.document(made)
    else:
        screen.line(f"{made['script_id']}@{made['version']}", made["status"], f"{made['tests_count']} tests")
        _named(made, screen)
    return Exit.FINE


def _test(options: argparse.Namespace, client: Client, screen: Screen, version: int | None) -> int:
    ran = client.test_policy(options.script_id, version=version, tests=_tests(options.tests) if options.tests else None)
    if screen.json:
        screen.document(ran)
    else:
        for test in ran["tests"]:
            screen.line(Text("ok    ", style="green") if test["passed"] else Text("FAILED", style="red"), test["name"])
            if test.get("note"):
                screen.line(Text(f"        {test['note']}", style="dim"))
            if not test["passed"]:
                came = test["error"] or json.dumps(test["actual"], ensure_ascii=False)
                screen.line(f"        expected {json.dumps(test['expected'], ensure_ascii=False)}, got {came}")
        screen.note(f"{ran['script_id']}@{ran['version']}: {ran['passed']} pass, {ran['failed']} fail")
    return Exit.NOT_COMPLETED if ran["failed"] else Exit.FINE


def backtest(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    found = client.start_backtest(
        options.script_id, version=options.script_version, since=_iso(options.since), until=_iso(options.until), limit=options.limit,
        task_ids=options.task,
    )  # fmt: skip
    while found["status"] in ("queued", "running"):
        if not screen.json:
            screen.note(f"{found['runs_seen']:,} of {found['runs_total']:,} decisions")
        time.sleep(LOOK_SECONDS)
        found = client.backtest(found["id"])
    if screen.json:
        screen.document(found)
    else:
        _show(found, client, screen)
    return Exit.FINE if found["status"] == "done" else Exit.NOT_COMPLETED


def _show(found: dict[str, Any], client: Client, screen: Screen) -> None:
    if found["error"]:
        screen.note(found["error"])
    result = found["result"]
    if not result:
        return
    counts = (f"{result['runs']:,} decisions", f"{result['flipped']:,} flip", f"{result['took_s']:g} s")
    screen.line(f"{found['script_id']}@{found['version']}", *counts)
    if found.get("summary"):
        screen.line(found["summary"])
    for change, count in result["changes"].items():
        screen.line(f"{count:>9,}", change)
    if result["errors"]["draft"]:
        screen.line(f"{result['errors']['draft']:>9,}", "errors")
        for each in result["errors"]["messages"]:
            screen.line(f"{each['count']:>9,}", Text(each["message"], style="dim"))
    if "queue" in result:
        screen.line(f"order of the queue: Kendall's tau {result['queue']['kendall_tau']}, {result['queue']['moved']:,} stand elsewhere")
    flips = client.backtest_flips(found["id"])["items"][:SHOWN]
    if flips:
        rows = [(flip["task_id"], flip["change"], _said(flip["old"]), _said(flip["new"])) for flip in flips]
        screen.table(("TASK", "CHANGE", "RECORDED", "NOW"), rows, flexible="NOW", shorten=("TASK", "RECORDED"))
    if result["flipped"] > len(flips):
        screen.note(f"the first {len(flips)} of {result['flipped']:,}; the others: /api/v1/backtests/{found['id']}/flips")


def _said(side: dict[str, Any]) -> str:
    why = side["error"] or side["reason"]
    return f"{side['decision']}: {why}" if why else str(side["decision"])


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{text} is no version.")
    return int(text)


def _tests(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error


def _iso(at: Any) -> str | None:
    return at.isoformat() if at is not None else None
