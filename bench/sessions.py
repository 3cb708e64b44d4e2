"""Beside a running platform: submit one session, wait for its final result, check it, tell how long it took.

JSON in: {"org", "fan": items} or {"org", "graph": {"tasks", "edges", "seconds", "slots", "seed", "chain"}}; JSON out.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

WAIT_SECONDS = 600.0


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
    import django

    django.setup()
    wishes = json.loads(sys.stdin.read())
    print(json.dumps(_fan(wishes) if "fan" in wishes else _graph(wishes)))


def _fan(wishes: dict[str, Any]) -> dict[str, Any]:
    count = wishes["fan"]
    document = {
        "context": {"numbers": list(range(count))},
        "tasks": [
            {
                "key": "fan", "agent_class": "BenchNoop",
                "expansion_config": {
                    "type": "array", "array_mapping": {"n": "numbers"}, "output_format": "merge", "process_array_output": False,
                },
            },
            {"key": "reduce", "agent_class": "BenchCount", "input": {"results": "{fan}"}, "dependencies": ["fan"]},
        ],
    }  # fmt: skip
    told, seconds = _run(wishes["org"], document)
    wrong = []
    if told["results"].get("reduce") != {"count": count, "sum": sum(range(count))}:
        wrong.append(f"the reduce answered {told['results'].get('reduce')}")
    from apps.workflows.models import Item

    rows = Item.objects.filter(step_run__endswith=f"{told['session_id']}:main.fan#1", status="completed")
    if (stored := rows.count()) != count:
        wrong.append(f"{stored} of {count} rows say completed")
    return {"items": count, "seconds": seconds, "wrong": wrong}


def _graph(wishes: dict[str, Any]) -> dict[str, Any]:
    from bench.graph import document_of, ideal, seeded

    asked = wishes["graph"]
    parents = seeded(asked["tasks"], asked["edges"], seed=asked["seed"], chain=asked["chain"])
    told, seconds = _run(wishes["org"], document_of(parents, asked["seconds"]))
    best = ideal(parents, asked["seconds"], asked["slots"])
    return {"tasks": asked["tasks"], "seconds": seconds, "ideal": best, "wrong": _order(told["session_id"], parents)}


def _order(session_id: str, parents: list[list[int]]) -> list[str]:
    """Each task once, after all its parents ended."""
    from apps.workflows.models import Item

    times = {}
    for step_run, started, finished, status in Item.objects.filter(step_run__contains=f"/{session_id}:main.t").values_list(
        "step_run", "started_at", "finished_at", "status"
    ):
        number = int(step_run.rpartition(".t")[2].partition("#")[0])
        if number in times or status != "completed":
            return [f"t{number} ran twice, or ended {status}"]
        times[number] = (started, finished)
    if len(times) != len(parents):
        return [f"{len(times)} of {len(parents)} tasks ran"]
    return [
        f"t{number} began before t{parent} ended"
        for number, before in enumerate(parents)
        for parent in before
        if times[number][0] < times[parent][1]
    ][:3]


def _run(org_id: str, document: dict[str, Any]) -> tuple[dict[str, Any], float]:
    from apps.core import clock
    from apps.core.auth import Principal
    from apps.workflows import news
    from apps.workflows.models import Session
    from apps.workflows.service import Sessions

    principal = Principal(org_id=org_id, role="submitter", subject_id="sam", key_id="", name="bench")
    sessions = Sessions()
    began = time.perf_counter()
    session_id = sessions.create(document, principal, now=clock.now())[0]["session_id"]
    key = f"{org_id}/{session_id}"
    with news.listening(key) as woken:
        until = time.monotonic() + WAIT_SECONDS
        while not Session.objects.filter(pk=key, published=True).exists():
            woken.wait(0.5)
            woken.clear()
            if time.monotonic() > until:
                raise SystemExit(f"the session did not end: {sessions.get(principal, session_id)}")
    took = time.perf_counter() - began
    return sessions.results(principal, session_id), round(took, 4)


if __name__ == "__main__":
    main()
