"""The second act: a session of task groups over the same folder. Every check on every package, merged into one report
(examples/code_checks.yaml), done by the platform's own workers; its tree is shown while it runs."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from demo.stage import ROOT
from jobplatform_sdk.cli.screen import clean, duration
from jobplatform_sdk.cli.session_tree import Tree
from jobplatform_sdk.cli.sessions import read_document
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_sessions import Session, Step

DOCUMENT = ROOT / "examples" / "code_checks.yaml"
PROCESSORS = "examples.code_checks"
SESSION = "code-checks"
SECONDS = 300.0
FINDINGS = "check.findings"


def run(console: Console, client: Client) -> int:
    """0 when it completed with a finding for each check of each package, else 1; says what is not so."""
    document = {**read_document(str(DOCUMENT)), "session_id": SESSION}
    client.create_session(document)
    _watch(console, client)
    session = client.session(SESSION)
    steps = {step.path: step for step in client.session_steps(SESSION)}
    result = client.session_results(SESSION, partial=True)
    for line in str(result["results"].get("report") or "").splitlines():
        console.print(Text(clean(line)), soft_wrap=True)
    console.print()
    return _judge(console, session, steps, result, len(document["context"]["checks"]))


def _watch(console: Console, client: Client) -> None:
    tree, news = Tree(), client.follow_session(SESSION, SECONDS)
    if console.is_terminal:
        with Live(tree, console=console, refresh_per_second=8, vertical_overflow="crop"):
            for one in news:
                tree.take(one)
        return
    for one in news:
        if tree.take(one) and one.step is not None and one.step.kind == "step" and one.step.finished:
            console.print(f"  {one.step.path} {one.step.status}, {one.step.counts.get('completed', 0)} items", style="bright_black")


def _judge(console: Console, session: Session, steps: dict[str, Step], result: dict[str, Any], checks: int) -> int:
    done, total = (steps[FINDINGS].counts.get(name, 0) if FINDINGS in steps else 0 for name in ("completed", "total"))
    wrong = []
    if not session.completed or session.partial:
        wrong.append(f"the session {'is partial' if session.partial else session.status}: {session.reason}")
    if done != total or total % checks:
        wrong.append(f"{done} of {total} findings, for {checks} checks of each package")
    if not result["results"].get("report"):
        wrong.append("there is no report")
    for what in wrong:
        console.print(Text(clean(what), style="red"), soft_wrap=True)
    if wrong:
        return 1
    took = duration((session.finished - session.started).total_seconds()) if session.finished and session.started else ""
    packages = "1 package" if total == checks else f"{total // checks} packages"
    console.print(Text(f"The session completed in {took}: {packages} × {checks} checks, each item a row.", style="bold green"))
    return 0
