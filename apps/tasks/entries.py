"""The task as submitters write it: one frozen value, and the names it has on the wire.

The wire names, their misspelling included, belong to the ecosystem: agents and submitters written for other
platforms use them. Inside, a field has one plain name. `parser.py` reads the wire; `to_wire` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from apps.core import clock, ids

PRIORITY_MIN, PRIORITY_MAX = -1000, 1000


class ExecutionMode(StrEnum):
    AUTO = "auto"
    MANUAL = "manual"
    """Always waits for a person before it is queued."""
    HYBRID = "hybrid"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskEntry:
    """A submitted task, parsed and valid. `""` and `{}` mean: not given."""

    task_id: str
    goal: str
    intent: str
    priority: int
    """The submitter's own, PRIORITY_MIN…PRIORITY_MAX; a policy may set another."""
    submitter_subject_id: str
    body_hash: str
    """SHA-256 (hex) of what was submitted, whatever the order and form of its names: same task_id and same hash is a repeat."""
    kind: str = "task"
    """`task` or `sub_task`."""
    parent_task_id: str = ""
    """Of a sub-task: the task it is a part of."""
    parent_subject_ids: Sequence[str] = ()
    parent_input_data_ptr: str = ""
    assigned_subject_ids: Sequence[str] = ()
    """The head agent is chosen among these; empty: among all candidates. Submitters may say so of a sub-task, the platform of
    any task (the step of a session that names its agent)."""
    execution_mode: str = ExecutionMode.AUTO
    job_space_id: str = ""
    submission_ts: str = ""
    """As the submitter wrote it (ISO 8601 or epoch seconds); "" when he did not."""
    due: datetime | None = None
    """From `completion_timeline.due`."""
    not_before: datetime | None = None
    """From `completion_timeline.not_before`."""
    assign_by: datetime | None = None
    """From `completion_timeline.assign_by`: fails when no agent has it by then."""
    steerability: dict[str, Any]
    knowledgebase_ptr: str = ""
    approval_script_id: str = ""
    """`task_op_convertor_dsl_id`: the approval script for this task, instead of the org's."""
    execution_dsl: str = ""
    completion_timeline: dict[str, Any]
    behavior_dsl_map: dict[str, Any]
    contracts_map: dict[str, Any]
    verification_subject_id: str = ""
    payload: dict[str, Any]
    """`task_job_submission_data`: free, for the agent."""

    @property
    def org_id(self) -> str:
        """By convention a subject id is `<org_id>:<subject>`."""
        return self.submitter_subject_id.partition(":")[0]

    @property
    def key(self) -> str:
        return ids.task_key(self.org_id, self.task_id)

    @property
    def priority_script_id(self) -> str:
        """The priority script for this task, instead of the org's; "" for none."""
        return self.behavior_dsl_map.get("priority_assigner_dsl_id") or ""

    def to_wire(self, *, now: datetime) -> dict[str, Any]:
        """Every wire name, so that an agent may index without asking first. `now` is the submission time when none was given."""
        payload = self.payload
        if self.job_space_id and "job_space_id" not in payload:
            payload = {**payload, "job_space_id": self.job_space_id}
        if self.kind == "sub_task":
            return self._sub_task_wire(payload, now)
        chosen = {"assigned_subject_ids": list(self.assigned_subject_ids)} if self.assigned_subject_ids else {}
        return {
            **chosen,
            "task_id": self.task_id,
            "task_goal": self.goal,
            "task_intent": self.intent,
            "task_priority_value": self.priority,
            "task_streeability_data": self.steerability,
            "task_knowledgebase_ptr": self.knowledgebase_ptr or None,
            "submitter_subject_id": self.submitter_subject_id,
            "task_op_convertor_dsl_id": self.approval_script_id or None,
            "task_execution_dsl": self.execution_dsl or None,
            "task_submission_ts": self.submission_ts or clock.iso(now),
            "task_completion_timeline": self.completion_timeline,
            "task_execution_mode": str(self.execution_mode),
            "task_behavior_dsl_map": self.behavior_dsl_map,
            "task_contracts_map": self.contracts_map,
            "task_verification_subject_id": self.verification_subject_id,
            "task_job_submission_data": payload,
        }

    def _sub_task_wire(self, payload: dict[str, Any], now: datetime) -> dict[str, Any]:
        """SubTaskEntry, and the fields of ours after it."""
        return {
            "sub_task_id": self.task_id,
            "task_id": self.parent_task_id,
            "sub_task_goal": self.goal,
            "sub_task_intent": self.intent,
            "sub_task_priority_value": self.priority,
            "sub_task_streeability_data": self.steerability,
            "sub_task_knowledgebase_ptr": self.knowledgebase_ptr or None,
            "parent_subject_ids": list(self.parent_subject_ids),
            "parent_input_data_ptr": self.parent_input_data_ptr or None,
            "assigned_subject_ids": list(self.assigned_subject_ids),
            "sub_task_submission_ts": self.submission_ts or clock.iso(now),
            "sub_task_completion_timeline": self.completion_timeline,
            "sub_task_behavior_dsl_map": self.behavior_dsl_map,
            "sub_task_contracts_map": self.contracts_map,
            "submitter_subject_id": self.submitter_subject_id,
            "sub_task_execution_mode": str(self.execution_mode),
            "sub_task_execution_dsl": self.execution_dsl or None,
            "sub_task_verification_subject_id": self.verification_subject_id,
            "sub_task_job_submission_data": payload,
        }


def needs(entry: dict[str, Any]) -> dict[str, Any]:
    """What a stored entry (wire names) asks of the agent that does it: `capabilities`, `job_kind`, `entry_bytes` of TaskFacts."""
    steering = entry.get("task_streeability_data") or entry.get("sub_task_streeability_data") or {}
    return {
        "capabilities": tuple(steering.get("capabilities") or ()),
        "job_kind": steering.get("job_kind") or "",
        "entry_bytes": len(orjson.dumps(entry)),
    }


def verifier_of(entry: Mapping[str, Any]) -> str:
    """Who verifies the outcome of an entry in wire names; "" for nobody."""
    return entry.get("task_verification_subject_id") or entry.get("sub_task_verification_subject_id") or ""
