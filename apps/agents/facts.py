"""What the agents room knows of a task: frozen facts, never a task row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFacts:
    key: str
    org_id: str
    task_id: str
    job_space_id: str
    priority: int
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
