"""What the agents room knows of a task: frozen facts, never a task row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFacts:
    key: str
    org_id: str
    task_id: str
    job_space_id: str
    priority: int
    attempt: int = 0
    """Assignments so far."""
    only: tuple[str, ...] = ()
    """A sub-task's assigned subjects: the head agent is one of these. Empty: any candidate."""
    excluded: Mapping[str, str] = field(default_factory=dict)
    """agent -> why it should not get this task: declined (never), failed or lost (only when nobody else can)."""
    capabilities: tuple[str, ...] = ()
    """What an agent must be able to do (`capabilities` of the task's steering data)."""
    job_kind: str = ""
    """`job_kind` of the steering data: agents whose card lists kinds take only those."""
    entry_bytes: int = 0
    """Size of the entry as JSON."""
    entry: Mapping[str, Any] = field(default_factory=dict)
    """The entry as submitted, wire names: what policy scripts see of it is made from this."""

    @property
    def behavior(self) -> Mapping[str, Any]:
        """The task's own wishes: strategy and scripts."""
        return self.entry.get("task_behavior_dsl_map") or self.entry.get("sub_task_behavior_dsl_map") or {}

    @property
    def strategy(self) -> str:
        """The task's own strategy, "" for the org's."""
        return self.behavior.get("agent_resolution_strategy") or ""
