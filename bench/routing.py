"""How long one routing decision takes, from the head of the queue to the agent's stream, with many candidates.

A dispatcher of its own beside the platform: it has the platform's NATS, another database of its Redis and a SQLite file of
its own, so that nobody else takes the tasks. One task at a time is put into the empty queue; what is timed is the batch
that finds it: claim, pool, choice (an auction calls every candidate), the writes, and the publish with its acknowledgement.

JSON in, JSON out: `{"candidates": 1000, "decisions": 100, "auctions": 30}` → by strategy, milliseconds of each decision: those
that passed (`wall`), and those that the dispatcher computed (`cpu`), which a busy machine leaves alone.
"""

from __future__ import annotations

import json
import os
import sys
import time

ORG = "routing"
PLAN = """
def select(task, candidates):
    best = candidates[0]
    for candidate in candidates:
        if (candidate["load"], -candidate["reputation"]) < (best["load"], -best["reputation"]):
            best = candidate
    return {"head_agent_subject_id": best["subject_id"]}
"""
TERMS = """
def auction(task):
    return {"rule": "weighted", "bid_window_ms": 200, "weights": {"price": 1, "eta": 0.5, "confidence": 5}}
"""
WARM = 3


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    json.dump(measure(**json.load(sys.stdin)), sys.stdout)


def measure(*, candidates: int, decisions: int, auctions: int) -> dict[str, dict[str, list[float]]]:
    from apps.core.readiness import settle
    from apps.messaging.connection import wire

    _found(candidates)
    wire().wait_up(10)
    wire().ensure_streams()
    _timed("least_loaded", WARM, "warm", candidates)
    settle()  # as every dispatcher does when it starts
    plans = {
        "least_loaded": ("least_loaded", decisions, "t"),
        "round_robin": ("round_robin", decisions, "t"),
        "static": ("static", decisions, "t"),
        "plan+retrieve": ("plan+retrieve", decisions, "t"),
        "auction, all answer": ("auction", auctions, "t"),
        "auction, some silent": ("auction", auctions, "silent"),
    }
    return {name: _timed(strategy, count, prefix, candidates) for name, (strategy, count, prefix) in plans.items()}


def _found(candidates: int) -> None:
    from apps.core import clock
    from apps.dsl import scripts
    from apps.orgs.models import Org
    from apps.roles.models import Role, Subject, SubjectRole

    now = clock.now()
    org = Org.objects.create(org_id=ORG, name=ORG, created_at=now)
    role = Role.objects.create(org=org, role_id="scouts", role_type="SCOUTING")
    subjects = Subject.objects.bulk_create(Subject(org=org, subject_id=name, subject_type="agent") for name in _names(candidates))
    SubjectRole.objects.bulk_create(SubjectRole(subject=subject, role=role) for subject in subjects)
    for name, source in (("plan_retrieve", PLAN), ("auction_input", TERMS)):
        scripts.register(org_id=ORG, script_id=f"{name}/bench", hook=name, source=source, by="bench", now=now, activate=True)


def _names(candidates: int) -> list[str]:
    return [f"agent-{number}" for number in range(candidates)]


def _timed(strategy: str, count: int, prefix: str, candidates: int) -> dict[str, list[float]]:
    from apps.agents.presence import PresenceBoard
    from apps.core import clock
    from apps.core import redis as door
    from apps.orgs.models import Org, OrgConfigParameter
    from apps.tasks.executor import JobExecutor
    from apps.tasks.models import Task

    org = Org.objects.get(org_id=ORG)
    wanted = {
        "agent_resolution_strategy": strategy,
        "static_head_agent_subject_id": "agent-7",
        "plan_retrieve_dsl_id": "plan_retrieve/bench",
        "auction_input_dsl_id": "auction_input/bench",
        "default_agent_slots": 10_000,
    }
    now = clock.now()
    for key, value in wanted.items():
        OrgConfigParameter.objects.update_or_create(org=org, key=key, defaults={"value": value, "changed_at": now, "changed_by": "bench"})
    door.client().flushdb()
    executor, board = JobExecutor(), PresenceBoard()
    taken: dict[str, list[float]] = {"wall": [], "cpu": []}
    for number in range(count + WARM):
        now = clock.now()
        if number % 10 == 0:
            for name in _names(candidates):
                board.record(ORG, name, slots=10_000, instance="bench", leaving=False, now=now)
        task_id = f"{prefix}-{strategy}-{prefix}-{number}"
        _queue(task_id)
        began, used = time.perf_counter(), time.process_time()
        done = executor.run_batch(now=clock.now())
        took = {"wall": time.perf_counter() - began, "cpu": time.process_time() - used}
        status = Task.objects.get(pk=f"{ORG}/{task_id}").status
        if done != 1 or status != "dispatched":
            raise SystemExit(f"{task_id} is {status}")
        if number >= WARM:
            for kind, seconds in took.items():
                taken[kind].append(round(1000 * seconds, 2))
    return taken


def _queue(task_id: str) -> None:
    from apps.core import clock
    from apps.tasks.models import Task
    from apps.tasks.queue import PriorityQueue, item_of
    from apps.tasks.store import Birth, TaskStore

    now = clock.now()
    entry = {"task_id": task_id, "task_goal": "nothing", "task_intent": "to be measured", "submitter_subject_id": f"{ORG}:sam"}
    task = Task(
        key=f"{ORG}/{task_id}", org_id=ORG, task_id=task_id, goal="nothing", intent="to be measured", submitter_subject_id=f"{ORG}:sam",
        entry=entry, body_hash=task_id, status="queued", sequence=clock.sequence(), created_at=now, updated_at=now,
    )  # fmt: skip
    TaskStore().insert_many([Birth(task=task, reason="to be measured", actor="bench")], now=now)
    PriorityQueue().push(ORG, [item_of(task)], now=now)


if __name__ == "__main__":
    main()
