"""Jobs beside the bare Celery task that does the same: overhead of a call, status reads, and many at once."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bench.measure import Wrong
from demo.stage import Process, Stage

WITHOUT = "--without=flower,listener,beat,dispatch,webhooks,backtests,workflows,quick-jobs,long-jobs,upkeep"
CHILDREN = 2


def jobs(options: argparse.Namespace) -> dict[str, Any]:
    """On a platform of its own: its servers, and one worker (prefork) that runs both kinds."""
    stage = Stage(options.data.resolve() / "jobs")
    try:
        stage.raise_platform(WITHOUT)
        argv = [sys.executable, "-m", "celery", "-A", "bench.job_tasks", "worker", "-P", "prefork", "-c", str(CHILDREN), "-Q", "fast"]
        worker = Process("the worker", [*argv, "--without-gossip", "--without-mingle"], stage.environment)
        try:
            wishes = {
                "singles": options.job_singles, "batch": options.job_batch, "repeats": options.repeats, "status_seconds": 2.0,
                "concurrent": options.jobs_at_once,
            }  # fmt: skip
            found = stage.ask("bench.job_tasks", wishes)
            worker.check()
        finally:
            worker.ask_to_stop()
            worker.wait_stopped(10.0)
    finally:
        stage.clear()
    if found["concurrent"] != options.jobs_at_once:
        raise Wrong("not all jobs were run")
    return {"children": CHILDREN, "batch": options.job_batch, **found}
