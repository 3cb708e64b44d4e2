"""The `task` that policy scripts see: short names, plain JSON, nothing of the platform's inside.

Every key is always there, so that a script may index without asking first; docs/policies.md lists them.
"""

from __future__ import annotations

from typing import Any


def task_facts(entry: dict[str, Any], *, org_id: str = "") -> dict[str, Any]:
    """From a TaskEntry or SubTaskEntry in wire names. Missing and null fields become "" or {} (priority: 0).

    `org_id` is the authenticated one; without it, the convention `<org_id>:<subject>` of submitter ids speaks.
    """
    kind = "sub_task" if "sub_task_id" in entry else "task"

    def field(name: str, default: Any = "") -> Any:
        value = entry.get(f"{kind}_{name}")
        return default if value is None else value

    payload = field("job_submission_data", {})
    submitter = entry.get("submitter_subject_id") or ""
    steering = field("streeability_data", None) or field("steerability_data", {})
    timeline = field("completion_timeline", {})
    return {
        "kind": kind,
        "task_id": field("id"),
        "parent_task_id": (entry.get("task_id") or "") if kind == "sub_task" else "",
        "org_id": org_id or submitter.partition(":")[0],
        "goal": field("goal"),
        "intent": field("intent"),
        "priority": field("priority_value", 0),
        "submitter_subject_id": submitter,
        "job_space_id": entry.get("job_space_id") or payload.get("job_space_id") or "",
        "execution_mode": field("execution_mode", "auto"),
        "execution_dsl": field("execution_dsl"),
        "knowledgebase_ptr": field("knowledgebase_ptr"),
        "verification_subject_id": field("verification_subject_id"),
        "submitted_at": field("submission_ts"),
        "due": timeline.get("due") or "",
        "timeline": timeline,
        "behavior": field("behavior_dsl_map", {}),
        "contracts": field("contracts_map", {}),
        "metadata": steering,
        "payload": payload,
    }


def task_of(given: dict[str, Any]) -> dict[str, Any]:
    """From what people write in tests and on the command line: a TaskEntry, bare or as {"type", "data"}, or the short
    names. What is missing is empty, as for a real task."""
    if "type" in given and isinstance(given.get("data"), dict):
        given = given["data"]
    if any(name.startswith(_WIRE) for name in given):
        return task_facts(given)
    return {**task_facts({}), **given}


_WIRE = tuple(
    f"{kind}_{name}" for kind in ("task", "sub_task") for name in ("goal", "intent", "priority", "job_sub", "behavior", "steer", "stree")
)
