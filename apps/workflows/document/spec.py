"""A session document as values: what `reading` makes of it, what `plan` decides over, what the engine stores rows for.

A *node* is a group or a step (a task of the document). Its *path* is its keys from the outermost group down, joined by
dots (`outer.inner.task`); the session itself stands above the outermost groups as the path "". Keys hold no dots, so a
path names one node. A session of `tasks` alone is one group, `main`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

ROOT = ""
"""The path of the session itself: parent of its outermost groups."""

UNDO = "~undo"
"""Behind the path of a step: the path of the step that undoes it. Keys hold no `~`."""

OnFailure = Literal["fail", "skip", "continue"]
"""What a node that failed or timed out does to others.

fail      its group fails now: what runs in it is cancelled, what waits is skipped; the group's own on_failure goes on from there
skip      what requires it is skipped, the rest goes on; group and session complete with `partial`
continue  what requires it runs as if it had completed; its result keys read as null and are listed as missing
"""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one document may hold. `bytes` is its size as JSON; `depth` counts objects and lists inside each other."""

    tasks: int = 10_000
    groups: int = 2_000
    levels: int = 16
    """of groups inside each other"""
    edges: int = 100_000
    """dependencies, over the whole document"""
    bytes: int = 8 * 1024 * 1024
    depth: int = 64
    context_keys: int = 1_000
    text: int = 64 * 1024
    """characters of one text"""
    list: int = 1_000
    """entries of a list such as tools or result_keys"""
    items: int = 100_000
    """children of one expanded task"""
    max_parallel: int = 100_000
    retries: int = 100
    seconds: float = 30 * 86_400.0
    """the longest timeout or delay"""
    problems: int = 100
    """listed in one answer"""


LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Join:
    """Which ends of its items make a step complete. `rule`:

    all       every item completed
    any       at least one completed (at_least 1)
    at_least  `n` completed
    percent   `n` percent completed, rounded up
    first     `n` completed (or all, when there are fewer); the rest is cancelled then
    ended     every item ended and at least one completed: the rule of `continue_on_error` when no other is given

    Items left out (`skipped`) are not asked for. Every rule but `first` waits until all items have ended.
    An empty list completes at once, except where the rule asks for a number (`any`, `at_least`)."""

    rule: Literal["all", "any", "at_least", "percent", "first", "ended"] = "all"
    n: float = 0


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often failed items are tried again, and how long each attempt waits (seconds). See `backoff.delay`."""

    max_retries: int = 0
    delays: tuple[float, ...] = ()
    """The wait before retry 1, 2, …; the last one goes on for ever. Empty: back off."""
    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 300.0
    jitter: float = 0.0
    """The share of a wait that is drawn at random, 0 to 1 (seeded, so every process finds the same instant)."""


@dataclass(frozen=True, kw_only=True)
class Compensation:
    """What undoes a step, run on request or after a failure when the session says `compensate`."""

    executor: Literal["agent", "celery"]
    agent_class: str = ""
    agent: str = ""
    message_template: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """The part of a step that says what to do. `timeout_s` is for each item, the node's `timeout_s` for the step as a whole.

    A template sees, strongest first: the item's variables, `data` (this task's own further fields), the context."""

    executor: Literal["agent", "celery"] = "agent"
    agent_class: str = ""
    """Of executor celery: the registered TaskProcessor. Of executor agent: handed on to the agent."""
    agent: str = ""
    """Subject id of the one agent to take; empty: the org's strategy chooses."""
    tools: tuple[Any, ...] = ()
    shared_instructions: str = ""
    message_template: str = ""
    files_folder: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    result_keys: tuple[str, ...] = ()
    """Context keys this step writes. Not given: its own key."""
    result_schema: Mapping[str, Any] | None = None
    expansion_config: Mapping[str, Any] | None = None
    join: Join = Join()
    retry: Retry = Retry()
    timeout_s: float | None = None
    fail_fast: bool = False
    continue_on_error: bool = False
    chunk_size: int | None = None
    compensation: Compensation | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the task that are no setting: where an expansion looks a path up first."""

    @property
    def expanded(self) -> bool:
        return self.expansion_config is not None

    @property
    def expansion_data(self) -> dict[str, Any]:
        """Where an expansion looks a path up before it looks in the context."""
        return {"input": self.input, **self.data}


@dataclass(frozen=True, kw_only=True)
class NodeSpec:
    path: str
    key: str
    kind: Literal["group", "step"]
    parent: str
    position: int
    """In document order, over the whole session."""
    name: str = ""
    description: str = ""
    needs: tuple[str, ...] = ()
    """Paths that must have completed first (`dependencies`)."""
    wants: tuple[str, ...] = ()
    """Paths that must have ended first, any way (`optional_dependencies`)."""
    on_failure: OnFailure = "fail"
    timeout_s: float | None = None
    max_parallel: int | None = None
    """Items of it (of a group: of all its steps) that may be in flight at once."""
    task: TaskSpec | None = None
    where: str = ""
    """JSON path of it in the document, such as `task_groups[1].tasks[0]`."""

    @property
    def is_step(self) -> bool:
        return self.kind == "step"


@dataclass(frozen=True, kw_only=True)
class SessionSpec:
    """A whole document. Frozen and shared by everything in the process that works on the session."""

    document: Mapping[str, Any]
    """The document with its defaults decided (each task's executor), to be stored and given to `reading.load`."""
    nodes: Mapping[str, NodeSpec]
    """By path, in document order; a group comes before its members."""
    session_id: str | None = None
    name: str = ""
    description: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None
    max_parallel: int | None = None
    compensate: bool = False
    job_space_id: str | None = None
    priority: int = 0
    result_keys: tuple[str, ...] | None = None
    """Context keys that make the final result; None: all that steps wrote."""
    order: tuple[str, ...] = ()
    """Paths so that each stands after all it waits for (a group: where it opens)."""
    writers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Result key → the steps that write it, each waiting for the one before."""

    @cached_property
    def _members(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {ROOT: []}
        for node in self.nodes.values():
            if node.kind == "group":
                found[node.path] = []
            found[node.parent].append(node.path)
        return {group: tuple(paths) for group, paths in found.items()}

    @cached_property
    def _dependents(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for path in (*node.needs, *node.wants):
                found.setdefault(path, []).append(node.path)
        return {path: tuple(paths) for path, paths in found.items()}

    @cached_property
    def steps(self) -> tuple[str, ...]:
        return tuple(path for path, node in self.nodes.items() if node.kind == "step")

    def task_of(self, path: str) -> TaskSpec | None:
        """What a step does; of `path~undo`: what undoes it."""
        node = self.nodes.get(path.removesuffix(UNDO))
        if node is None or node.task is None or not path.endswith(UNDO):
            return node.task if node else None
        undo = node.task.compensation
        if undo is None:
            return None
        return TaskSpec(
            executor=undo.executor, agent_class=undo.agent_class, agent=undo.agent, message_template=undo.message_template,
            input=undo.input, timeout_s=undo.timeout_s,
        )  # fmt: skip

    def members(self, group: str) -> tuple[str, ...]:
        """Steps and groups directly in `group` (`ROOT`: the outermost groups), in document order."""
        return self._members[group]

    def dependents(self, path: str) -> tuple[str, ...]:
        """Nodes that need or want `path`."""
        return self._dependents.get(path, ())

    def result_owner(self, key: str) -> str | None:
        """The step whose value of `key` stands in the end, None when no step writes it."""
        return self.writers[key][-1] if key in self.writers else None

    def ancestors(self, path: str) -> Iterator[str]:
        """The groups `path` is in, innermost first, then `ROOT`."""
        while path:
            path = self.nodes[path].parent
            yield path

    def to_touch_after(self, path: str) -> set[str]:
        """Nodes whose next move may differ now that `path` (`ROOT`: the session) has changed its state."""
        if path == ROOT:
            return set(self.members(ROOT))
        node = self.nodes[path]
        touched = {path, node.parent, *self.dependents(path)}
        if node.kind == "group":
            touched.update(self.members(path))
        return touched

    def scopes(self, path: str) -> tuple[str, ...]:
        """Where a `max_parallel` bounds the items of step `path`: itself, groups around it, the session; innermost first."""
        bound = [path] if self.nodes[path].max_parallel is not None else []
        for group in self.ancestors(path):
            if (self.nodes[group].max_parallel if group else self.max_parallel) is not None:
                bound.append(group)
        return tuple(bound)

    def steps_in(self, paths: Iterable[str]) -> set[str]:
        """The steps among `paths` and in the groups among them."""
        found, pending = set(), list(paths)
        while pending:
            path = pending.pop()
            if path != ROOT and self.nodes[path].kind == "step":
                found.add(path)
            else:
                pending.extend(self.members(path))
        return found
