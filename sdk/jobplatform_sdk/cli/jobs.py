"""`jobs` and its verbs: look at the jobs of views, watch one to its end, cancel, try again."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from datetime import datetime

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobplatform_sdk.cli.parsing import moment, seconds, verbs, without_verb
from jobplatform_sdk.cli.screen import Exit, Screen, age, between, clean, clock, duration, each_task, json_text, status_text
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_jobs import Job

STATUSES = ("queued", "started", "retrying", "finished", "failed", "cancelled", "expired")
JOBS_MORE = """\
Examples:
  jobctl jobs list --status failed --queue embeddings
  jobctl jobs show job_6a1f…
  jobctl jobs watch job_6a1f… --print
  jobctl jobs cancel job_6a1f…
  jobctl jobs retry job_6a1f… --watch

Operators see the jobs of their org, others those they submitted. `watch` exits with 0 only if the job finished; Ctrl-C
leaves it running.
"""


def job_arguments(to: argparse.ArgumentParser) -> None:
    verb = verbs(to)

    def add(name: str, summary: str, ids: str | None = "job_id") -> argparse.ArgumentParser:
        made = verb(name, summary)
        if ids:
            made.add_argument(ids, metavar="JOB_ID", **({"nargs": "+"} if ids == "job_ids" else {}))
        return made

    def watching(made: argparse.ArgumentParser) -> None:
        made.add_argument("--timeout", type=seconds, metavar="SECONDS", help="stop watching after so long")
        made.add_argument("--print", dest="print_result", action="store_true", help="show the result alone; a text as it is")

    listed = add("list", "list jobs, newest first", None)
    listed.add_argument("--status", action="append", choices=STATUSES, metavar="STATUS", help=f"may be repeated: {', '.join(STATUSES)}")
    listed.add_argument("--queue", action="append", metavar="QUEUE", help="may be repeated")
    listed.add_argument("--name", metavar="TEXT", help="of the method, or a part of it")
    listed.add_argument("--submitter", metavar="WHO", help="for operators: user:ID or key:ID")
    listed.add_argument("--error", metavar="CODE", help="that failed so: timeout, worker_lost, …")
    listed.add_argument("--since", type=moment, metavar="TIME", help="submitted at or after")
    listed.add_argument("--until", type=moment, metavar="TIME", help="submitted before")
    listed.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default 50; 0: all)")
    without_verb(to, listed)
    add("summary", "how many jobs are in each status and queue", None)
    add("show", "show a job: state, times, result or error, timeline")
    watching(add("watch", "watch a job until it has ended"))
    cancel = add("cancel", "cancel jobs: waiting ones at once, running ones are asked to stop", "job_ids")
    cancel.add_argument("--reason", default="", help="for the history")
    retry = add("retry", "submit failed or cancelled jobs anew, each as a new job", "job_ids")
    retry.add_argument("--watch", action="store_true", help="then watch it (of one)")
    watching(retry)


def jobs(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return VERBS[options.verb](options, client, screen)


# ---- look -------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    found = client.jobs(
        limit=options.limit + 1 if options.limit else None, status=options.status, queue=options.queue, name=options.name,
        submitter=options.submitter, error_code=options.error, created_from=options.since, created_to=options.until,
    )  # fmt: skip
    shown = itertools.islice(found, options.limit or None)
    if screen.json:
        for job in shown:
            screen.document(job.data)
    elif rows := [_row(job) for job in shown]:
        titles = ("JOB", "STATUS", "QUEUE", "TRY", "AGE", "TOOK", "NAME", "")
        screen.table(titles, rows, flexible="", shorten=("JOB", "NAME"))
    else:
        screen.note("no jobs")
    if next(found, None) is not None:
        screen.note(f"the newest {options.limit}; there are more: --limit")
    return Exit.FINE


def _row(job: Job) -> tuple[str | Text, ...]:
    status = status_text(job.status)
    if job.status == "started" and job.progress:
        status.append(f" {job.progress:.0f}%")
    took = between(job.started, job.ended_at)
    return (job.job_id, status, job.queue, str(job.attempt or ""), age(job.created), took, job.name, job.error_code or job.message)


def _summary(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    found = client.job_summary()
    if screen.json:
        screen.document(found)
        return Exit.FINE
    statuses, queues = found.get("statuses") or {}, found.get("queues") or {}
    shown = [Text(f"{count:,} ") + status_text(status) for status, count in statuses.items() if count]
    screen.line(*(shown or ["no jobs yet"]))
    rows = [(name, *(f"{counts.get(status, 0):,}" for status in STATUSES[:3])) for name, counts in queues.items()]
    if rows:
        screen.table(("QUEUE", "WAITING", "RUNNING", "RETRYING"), rows, flexible="", shorten=("QUEUE",))
    return Exit.FINE


def _show(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    job, events = client.job(options.job_id), client.job_events(options.job_id)
    if screen.json:
        screen.document({**job.data, "events": events})
        return Exit.FINE
    screen.line(Text(clean(job.job_id), style="bold"), status_text(job.status))
    for name, value in _facts(job):
        screen.line(Text(f"  {name:<10}", style="dim"), value)
    if job.finished and job.result is not None:
        screen.line(Text("\nResult", style="bold"))
        screen.result(job.result)
    screen.line(Text("\nTimeline", style="bold"))
    for each in events:
        at = datetime.fromisoformat(str(each.get("at")))
        tries = f"attempt {each['attempt']}" if each.get("new") == "started" else ""
        told = (str(each.get("reason") or ""), str(each.get("actor") or ""))
        screen.line(Text(f"  {clock(at)}", style="dim"), status_text(str(each.get("new"))), tries, *told)
    return Exit.FINE


def _facts(job: Job) -> list[tuple[str, str]]:
    data = job.data
    found = [
        ("name", job.name),
        ("queue", f"{job.queue}, priority {job.priority}" if job.priority else job.queue),
        ("submitter", job.submitter),
        ("retry of", job.retry_of),
        ("attempt", f"{job.attempt} of {1 + int(data.get('retries') or 0)}" if job.attempt else ""),
        ("waits for", ", ".join(map(str, data.get("depends_on") or ())) if job.status == "queued" else ""),
        ("progress", _progress(job) if not job.ended else ""),
        ("error", " ".join(filter(None, (job.error, f"({job.error_code})" if job.error_code else "")))),
        ("submitted", f"{clock(job.created, date=True)} ({age(job.created)} ago)" if job.created else ""),
        ("not before", str(data.get("not_before") or "")),
        ("waited", between(job.created, job.started)),
        ("ran", between(job.started, job.ended_at)),
        ("kept until", str(data.get("result_expires_at") or "")),
        ("tells", str(data.get("webhook_url") or "")),
    ]
    return [(name, value) for name, value in found if value]


def _progress(job: Job) -> str:
    percent = "" if job.progress is None else f"{job.progress:g}%"
    left = f"{duration(job.eta_s)} left" if job.eta_s is not None else ""
    return "  ".join(filter(None, (percent, left, job.message)))


# ---- watch ------------------------------------------------------------------------------------------------


def _watch(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    return _follow(options.job_id, options, client, screen)


def _follow(job_id: str, options: argparse.Namespace, client: Client, screen: Screen) -> int:
    _show_news(client.follow_job(job_id, options.timeout), screen)
    job = client.job(job_id)
    if not job.ended:
        screen.note(f"{job_id} had not ended after {options.timeout:g} s")
        return Exit.NOT_COMPLETED
    if not screen.json:
        _outcome(job, screen, alone=options.print_result)
    return Exit.FINE if job.finished else Exit.NOT_COMPLETED


def _show_news(news: Iterator[Job], screen: Screen) -> None:
    if screen.lively:
        with Live(Text(""), console=screen.out, refresh_per_second=8, transient=True) as live:
            for job in news:
                live.update(_bar(job))
        return
    last = ""
    for job in news:
        if screen.json:
            screen.document(job.data)
            continue
        told = "  ".join(filter(None, (job.status, _progress(job) if not job.ended else "")))
        if told != last and not job.ended:
            screen.line(status_text(job.status), _progress(job))
        last = told


def _bar(job: Job) -> Table:
    made = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=100, completed=job.progress or 0, width=40, pulse=job.status == "started" and job.progress is None)
    made.add_row(status_text(job.status), bar, Text(clean(_progress(job))))
    return made


def _outcome(job: Job, screen: Screen, *, alone: bool) -> None:
    if alone and job.finished:
        for line in job.result.splitlines() if isinstance(job.result, str) else json_text(job.result, indent=True).splitlines():
            screen.line(Text(clean(line) if isinstance(job.result, str) else line))
        return
    screen.line(Text(clean(job.job_id), style="bold"), status_text(job.status), between(job.started, job.ended_at), job.error)
    if job.finished and job.result is not None:
        screen.result(job.result)


# ---- steer ------------------------------------------------------------------------------------------------


def _cancel(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    def one(job_id: str) -> None:
        job = client.cancel_job(job_id, options.reason)
        if screen.json:
            screen.document(job.data)
        else:
            screen.line(job.job_id, status_text(job.status), "" if job.ended else "it is asked to stop")

    return each_task(options.job_ids, one, screen)


def _retry(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    if options.watch and len(options.job_ids) == 1:
        made = client.retry_job(options.job_ids[0])
        screen.note(f"as {made.job_id}")
        return _follow(made.job_id, options, client, screen)

    def one(job_id: str) -> None:
        made = client.retry_job(job_id)
        if screen.json:
            screen.document(made.data)
        else:
            screen.line(made.job_id, status_text(made.status), f"tries {job_id} again")

    return each_task(options.job_ids, one, screen)


VERBS = {"list": _list, "summary": _summary, "show": _show, "watch": _watch, "cancel": _cancel, "retry": _retry}
