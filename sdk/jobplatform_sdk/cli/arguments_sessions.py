"""What can be typed after `jobctl sessions`."""

from __future__ import annotations

import argparse

from jobplatform_sdk.cli.parsing import seconds, verbs, without_verb

STATUSES = ("running", "paused", "completed", "failed", "cancelled", "timed_out")
SESSIONS_MORE = """\
Examples:
  jobctl sessions run examples/count_lines.yaml
  jobctl sessions run nightly.json --session-id nightly-2026-11-22 --set folder=/data --print report
  jobctl sessions run big.yaml --dry-run
  jobctl sessions list --status failed
  jobctl sessions show nightly-2026-11-22 --step read.analyse --status failed
  jobctl sessions retry nightly-2026-11-22 --watch
  jobctl sessions rerun nightly-2026-11-22 read.analyse --set depth=3 --watch

`run` and `watch` exit with 0 only if the session completed. Ctrl-C asks whether to cancel it; otherwise it goes on.
"""


def session_arguments(to: argparse.ArgumentParser) -> None:
    verb = verbs(to)

    def add(name: str, summary: str, *, one: bool = True) -> argparse.ArgumentParser:
        made = verb(name, summary)
        if one:
            made.add_argument("session_id", metavar="SESSION_ID")
        return made

    def watching(made: argparse.ArgumentParser) -> None:
        made.add_argument("--timeout", type=seconds, metavar="SECONDS", help="stop watching after so long")
        outcome(made)

    def outcome(made: argparse.ArgumentParser) -> None:
        made.add_argument("--print", dest="print_key", metavar="KEY", help="show this result alone; a text as it is")
        made.add_argument("--out", metavar="FILE", help="write the whole result there, as JSON")

    run = add("run", "hand in a session and watch it until it has ended", one=False)
    run.add_argument("file", metavar="FILE", help="its document, JSON or YAML (- for standard input)")
    run.add_argument("--session-id", metavar="ID", help="makes the command safe to repeat (default: the document's, else a new one)")
    run.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="a context value: JSON, @FILE of JSON, or text")
    run.add_argument("--dry-run", action="store_true", help="show what would run, and start nothing")
    run.add_argument("--detach", action="store_true", help="do not watch")
    watching(run)
    watching(add("watch", "watch a session until it has ended"))
    listed = add("list", "list sessions, newest first", one=False)
    listed.add_argument("--status", action="append", choices=STATUSES, metavar="STATUS", help=f"may be repeated: {', '.join(STATUSES)}")
    listed.add_argument("--prefix", metavar="TEXT", help="ids that begin so, or names that hold it")
    listed.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default 50; 0: all)")
    without_verb(to, listed)
    show = add("show", "show a session and its tree, or the items of one step")
    show.add_argument("--step", metavar="PATH", help="the items of this step")
    show.add_argument("--status", action="append", metavar="STATUS", help="with --step: items in this status")
    show.add_argument("--limit", type=int, default=200, metavar="N", help="with --step: at most so many (default 200; 0: all)")
    results = add("results", "the result of a session")
    results.add_argument("--partial", action="store_true", help="what there is by now")
    outcome(results)
    for name, summary in (
        ("cancel", "cancel: what runs is stopped"),
        ("pause", "start nothing new of it for now (operators)"),
        ("resume", "go on with a paused session (operators)"),
        ("retry", "do again what failed, and what waited for it (operators)"),
        ("compensate", "undo what completed, last first (operators)"),
    ):
        made = add(name, summary)
        made.add_argument("--reason", default="", help="for the history")
        if name in ("resume", "retry"):
            made.add_argument("--watch", action="store_true", help="then watch it")
            watching(made)
    rerun = add("rerun", "do one step again, with changed input, and all that depends on it (operators)")
    rerun.add_argument("step", metavar="PATH")
    rerun.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="changed input: JSON, @FILE of JSON, or text")
    rerun.add_argument("--reason", default="", help="for the history")
    rerun.add_argument("--watch", action="store_true", help="then watch it")
    watching(rerun)
    add("delete", "delete an ended session with all that is kept of it (admins)")
