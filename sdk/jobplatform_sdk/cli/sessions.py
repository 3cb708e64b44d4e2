"""`sessions` and its verbs: hand in a document, watch it run as a tree, look at what became of it, steer it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from rich.live import Live
from rich.text import Text

from jobplatform_sdk.cli.screen import Exit, Screen, between, clean, clock, status_text
from jobplatform_sdk.cli.session_tree import Tree, ended_well
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_sessions import Session, SessionNews, Step

SHOWN_MISSING = 10


def sessions(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return VERBS[options.verb](options, client, screen)


# ---- run and watch ----------------------------------------------------------------------------------------


def _run(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    document = document_of(options)
    if options.dry_run:
        return _plan(client.plan_session(document), screen)
    session = client.create_session(document)
    if options.detach:
        return _tell(session, screen)
    return _follow(session.session_id, options, client, screen)


def _watch(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return _follow(options.session_id, options, client, screen)


def _follow(session_id: str, options: argparse.Namespace, client: Client, screen: Screen) -> int:
    tree = Tree()
    try:
        _show(client.follow_session(session_id, options.timeout), tree, screen)
    except KeyboardInterrupt:
        return _interrupted(session_id, client, screen)
    session = client.session(session_id)
    if not tree.ended and not session.ended:
        screen.note(f"{session_id} had not ended after {options.timeout:g} s")
        return Exit.NOT_COMPLETED
    found = client.session_results(session_id, partial=True)
    if screen.json:
        screen.document({"event": "results", **found})
    else:
        _outcome(session, found, screen, key=options.print_key)
    if options.out:
        Path(options.out).write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    return Exit.FINE if ended_well(session) else Exit.NOT_COMPLETED


def _show(news: Iterator[SessionNews], tree: Tree, screen: Screen) -> None:
    if screen.lively:
        with Live(tree, console=screen.out, refresh_per_second=8, vertical_overflow="crop"):
            for one in news:
                tree.take(one)
        return
    for one in news:
        new = tree.take(one)
        if screen.json:
            screen.document({"event": one.kind, **one.data})
        elif new and one.step is not None and one.step.status != "waiting":
            _step_line(one.step, screen)
        elif new and one.session is not None and not one.session.ended:
            screen.line(one.session.session_id, status_text(one.session.status), one.session.reason)


def _step_line(step: Step, screen: Screen) -> None:
    at = Text(clock(step.finished or step.started), style="dim")
    total = step.counts.get("total", 0)
    items = f"{step.counts.get('completed', 0):,} of {total:,} items" if step.kind != "group" and total > 1 else ""
    took = between(step.started, step.finished) if step.finished else ""
    why = step.reason if step.status not in ("completed", "running", "expanding") else ""
    screen.line(at, step.path, status_text(step.status), items, took, why)


def _interrupted(session_id: str, client: Client, screen: Screen) -> int:
    """Whoever is there is asked; otherwise the session goes on, for that is what sessions do."""
    if sys.stdin.isatty() and not screen.json:
        try:
            said = input(f"\nCancel {clean(session_id)}? [y/N] ")
        except (KeyboardInterrupt, EOFError):
            said = ""
        if said.strip().lower() in ("y", "yes"):
            return _after_verb(client.cancel_session(session_id, "interrupted"), screen, Exit.INTERRUPTED)
    screen.note(f"it goes on without you: jobctl sessions watch {session_id} · jobctl sessions cancel {session_id}")
    return Exit.INTERRUPTED


def _outcome(session: Session, found: dict[str, Any], screen: Screen, *, key: str | None) -> None:
    partial = Text("partial", style="yellow") if session.partial else ""
    steps = f"{session.steps.get('completed', 0):,} of {session.steps.get('total', 0):,} steps"
    items = f"{session.items.get('completed', 0):,} of {session.items.get('total', 0):,} items"
    screen.line(session.session_id, status_text(session.status), partial, steps, items, between(session.created, session.finished))
    if session.reason and not session.completed:
        screen.line(Text("  because  ", style="dim"), session.reason)
    missing = found.get("missing") or []
    for one in missing[:SHOWN_MISSING]:
        screen.line(Text("  missing  ", style="dim"), _missing(one))
    if len(missing) > SHOWN_MISSING:
        screen.line(Text(f"  … and {len(missing) - SHOWN_MISSING} more: --json", style="dim"))
    results = found.get("results") or {}
    if key is not None:
        value = results.get(key)
        if key not in results:
            screen.note(f"there is no result {key!r}; there are {', '.join(sorted(results)) or 'none'}")
        elif isinstance(value, str):
            for line in value.splitlines():
                screen.line(Text(clean(line)))
        else:
            screen.result(value)
    elif results:
        screen.result(results)


def _missing(one: Any) -> str:
    if not isinstance(one, dict):
        return str(one)
    items = one.get("items") or []
    where = f"{one.get('path', '')}" + (f" items {', '.join(map(str, items[:5]))}{' …' if len(items) > 5 else ''}" if items else "")
    return f"{where}: {one.get('reason', '')}"


def _plan(plan: dict[str, Any], screen: Screen) -> int:
    if screen.json:
        screen.document(plan)
        return Exit.FINE
    rows = []
    for step in sorted(plan.get("steps", []), key=lambda step: step.get("level", 0)):
        count, after = step.get("items"), step.get("known_after") or []
        waits = [*step.get("dependencies", []), *(f"{one} (optional)" for one in step.get("optional_dependencies", []))]
        names = ", ".join(map(str, step.get("names") or [])) if count != 1 else ""
        rows.append((
            str(step.get("level", "")), str(step["path"]), str(step.get("agent_class") or step.get("executor") or ""),
            "?" if count is None else f"{count:,}", ", ".join(map(str, waits)), f"known after {', '.join(after)}" if after else names,
        ))  # fmt: skip
    screen.table(("LEVEL", "STEP", "BY", "ITEMS", "AFTER", ""), rows, flexible="", shorten=("STEP", "AFTER"))
    critical = (plan.get("critical_path") or {}).get("steps") or []
    if critical:
        screen.line(Text("longest way: ", style="dim") + Text(clean(" → ".join(map(str, critical)))))
    screen.note("nothing was started")
    return Exit.FINE


# ---- the document -----------------------------------------------------------------------------------------


def document_of(options: argparse.Namespace) -> dict[str, Any]:
    """The file, with what the flags say over it. ValueError when it is no document."""
    document = read_document(options.file)
    if options.session_id:
        document["session_id"] = options.session_id
    if options.set:
        context = document.setdefault("context", {})
        if not isinstance(context, dict):
            raise ValueError("the document's context is not an object")
        for one in options.set:
            name, equals, value = one.partition("=")
            if not equals or not name:
                raise ValueError(f"--set takes KEY=VALUE, not {one!r}")
            context[name] = _value(value)
    return document


def read_document(name: str) -> dict[str, Any]:
    """JSON, or YAML when the name ends in .yaml or .yml (JSON is YAML: standard input may be either, where YAML can be read)."""
    raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if name.endswith(".json"):
            raise ValueError(f"{name} is not JSON: {error}") from None
        found = _yaml(raw, name)
    if not isinstance(found, dict):
        raise ValueError(f"{name} is not a session: an object is expected")
    return found


def _where(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"


def _yaml(raw: bytes, name: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ValueError(f"{name} is not JSON; to read YAML: pip install PyYAML") from None
    try:
        found = yaml.safe_load(raw)
        orjson.dumps(found)  # dates and the like are no JSON: say so here, by the file's name
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is not YAML: {_where(error)}") from None
    except orjson.JSONEncodeError as error:
        raise ValueError(f"{name} holds what JSON does not have (quote it): {error}") from None
    return found


def _value(text: str) -> Any:
    """JSON, @ and a file of JSON, or text."""
    if text.startswith("@"):
        return orjson.loads(Path(text[1:]).read_bytes())
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


# ---- look -------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    found = client.sessions(status=options.status, q=options.prefix, limit=options.limit or None)
    if screen.json:
        for one in found:
            screen.document(one.data)
        return Exit.FINE
    rows = [
        (one.session_id, status_text(one.status), f"{one.progress}%", str(one.steps.get("total", 0)), f"{one.items.get('total', 0):,}",
         clock(one.created, date=True)[:19], between(one.created, one.finished), one.name)
        for one in found
    ]  # fmt: skip
    if rows:
        titles = ("SESSION", "STATUS", "DONE", "STEPS", "ITEMS", "SUBMITTED", "TOOK", "NAME")
        screen.table(titles, rows, flexible="NAME", shorten=("SESSION",))
    else:
        screen.note("no sessions")
    return Exit.FINE


def _show_one(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    session = client.session(options.session_id)
    if options.step:
        return _items(options, client, screen)
    steps = list(client.session_steps(options.session_id))
    if screen.json:
        screen.document({**session.data, "tree": [step.data for step in steps]})
        return Exit.FINE
    _tell(session, screen)
    rows = [
        ("  " * step.path.count(".") + (step.name or step.key), status_text(step.status), _counted(step),
         between(step.started, step.finished), "" if step.status == "completed" and not step.partial else step.reason)
        for step in steps
    ]  # fmt: skip
    screen.table(("STEP", "STATUS", "ITEMS", "TOOK", ""), rows, flexible="", shorten=("STEP",))
    return Exit.FINE


def _counted(step: Step) -> str:
    total = step.counts.get("total", 0)
    return "" if step.kind == "group" or not total else f"{step.counts.get('completed', 0):,}/{total:,}"


def _items(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    rows = []
    for item in client.session_items(
        options.session_id, options.step, status=options.status, limit=options.limit or None, whole=screen.json
    ):
        if screen.json:
            screen.document(item)
            continue
        name = str(item.get("name") or item.get("identifier") or "")
        task = str(item.get("task_id") or "")
        rows.append(
            (str(item["index"]), name, status_text(str(item["status"])), str(item.get("attempt")), task, str(item.get("reason") or ""))
        )
    if rows:
        titles = ("ITEM", "NAME", "STATUS", "ATTEMPT", "TASK", "")
        screen.table(titles, rows, flexible="", shorten=("NAME", "TASK"))
    elif not screen.json:
        screen.note("no such items")
    return Exit.FINE


def _results(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    found = client.session_results(options.session_id, partial=options.partial)
    if options.out:
        Path(options.out).write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    if screen.json:
        screen.document(found)
    else:
        _outcome(client.session(options.session_id), found, screen, key=options.print_key)
    return Exit.FINE


def _tell(session: Session, screen: Screen) -> int:
    if screen.json:
        screen.document(session.data)
        return Exit.FINE
    items = f"{session.items.get('completed', 0):,} of {session.items.get('total', 0):,} items"
    partial = Text("partial", style="yellow") if session.partial else ""
    run = f"run {session.run}" if session.run > 1 else ""
    screen.line(
        Text(session.session_id, style="bold"), status_text(session.status), partial, f"{session.progress}%", items, run, session.name
    )
    if session.reason:
        screen.line(Text("  because  ", style="dim"), session.reason)
    return Exit.FINE


# ---- steer ------------------------------------------------------------------------------------------------


def _steer(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    verbs = {
        "cancel": client.cancel_session, "pause": client.pause_session, "resume": client.resume_session, "retry": client.retry_session,
        "compensate": client.compensate_session,
    }  # fmt: skip
    session = verbs[options.verb](options.session_id, options.reason)
    if options.verb in ("resume", "retry") and options.watch:
        return _follow(options.session_id, options, client, screen)
    return _tell(session, screen)


def _rerun(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    given = {name: _value(value) for name, _, value in (one.partition("=") for one in options.set)} or None
    session = client.rerun_session(options.session_id, options.step, input=given, reason=options.reason)
    return _follow(options.session_id, options, client, screen) if options.watch else _tell(session, screen)


def _delete(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    client.delete_session(options.session_id)
    if screen.json:
        screen.document({"deleted": options.session_id})
    else:
        screen.line(options.session_id, "is gone, with all that was kept of it")
    return Exit.FINE


def _after_verb(session: Session, screen: Screen, status: Exit) -> int:
    _tell(session, screen)
    return status


VERBS = {
    "run": _run, "watch": _watch, "list": _list, "show": _show_one, "results": _results, "cancel": _steer, "pause": _steer,
    "resume": _steer, "retry": _steer, "compensate": _steer, "rerun": _rerun, "delete": _delete,
}  # fmt: skip
