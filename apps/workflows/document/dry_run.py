"""What a session would do, without doing it: the steps in their order, how many items each becomes and what those are called.

Counts of steps that expand over results of earlier steps are not known before those have run; the plan says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.workflows import expansion
from apps.workflows.document import provision
from apps.workflows.document.spec import LIMITS, ROOT, Limits, NodeSpec, SessionSpec
from apps.workflows.expansion import Work

NAMES = 10
"""names shown for a step"""
ROWS = 200_000
"""items made to name and count them, over the whole session; beyond that there are only counts, and none of what must be made
to be counted"""


def expanded_plan(
    spec: SessionSpec, context: Mapping[str, Any] | None = None, *, run_starlark: Any = None, limits: Limits = LIMITS
) -> dict[str, Any]:
    """JSON for people and programs. `context`: the document's own, when not given. Raises BadExpansion.

    `levels`: steps that could run at the same time, level after level. `critical_path`: a longest chain of steps, each of
    which waits for the one before."""
    depth = _Depth(spec)
    counting = _Counting(spec, spec.context if context is None else context, run_starlark, limits)
    steps = [_step(spec.nodes[path], depth, counting) for path in spec.steps]
    levels: dict[int, list[str]] = {}
    for step in steps:
        levels.setdefault(step["level"], []).append(step["path"])
    known = [step["items"] for step in steps if step["items"] is not None]
    return {
        "session_id": spec.session_id,
        "name": spec.name,
        "totals": {
            "groups": len(spec.nodes) - len(steps),
            "steps": len(steps),
            "dependencies": sum(len(node.needs) + len(node.wants) for node in spec.nodes.values()),
            "items": sum(known),
            "steps_unknown": len(steps) - len(known),
            "by_executor": dict(Counter(step["executor"] for step in steps)),
            "widest": max(map(len, levels.values())),
        },
        "critical_path": depth.longest(),
        "levels": [levels[level] for level in sorted(levels)],
        "groups": [_group(node) for node in spec.nodes.values() if node.kind == "group"],
        "steps": steps,
        "result_keys": list(spec.writers if spec.result_keys is None else spec.result_keys),
    }


def _group(node: NodeSpec) -> dict[str, Any]:
    return {"path": node.path, "name": node.name or node.key, "dependencies": list(node.needs), "optional_dependencies": list(node.wants)}


def _step(node: NodeSpec, depth: _Depth, counting: _Counting) -> dict[str, Any]:
    if node.task is None:
        raise ValueError(f"{node.path} is a group")
    items, names, after = counting.count(node)
    return {
        "path": node.path,
        "name": node.name or node.key,
        "executor": node.task.executor,
        "agent_class": node.task.agent_class,
        "level": depth.level(node.path),
        "dependencies": list(node.needs),
        "optional_dependencies": list(node.wants),
        "result_keys": list(node.task.result_keys),
        "items": items,
        "names": names,
        "known_after": after,
        "timeout_s": node.task.timeout_s,
        "max_retries": node.task.retry.max_retries,
    }


@dataclass
class _Counting:
    spec: SessionSpec
    context: Mapping[str, Any]
    run_starlark: Any
    limits: Limits
    rows: int = field(default=ROWS)
    work: Work = field(default_factory=Work)

    def count(self, node: NodeSpec) -> tuple[int | None, list[str], list[str]]:
        """(how many items or None, the first names, the steps after which it is known)"""
        task, name = node.task, node.name or node.key
        if task is None or task.expansion_config is None:
            return 1, [name], []
        config, data = task.expansion_config, task.expansion_data
        if "script" in config and self.run_starlark is None:
            return None, [], []
        after = [path for key in sorted(expansion.reads(config, data)) for path in self.spec.writers.get(key, ())]
        if after:
            return None, [], list(dict.fromkeys(after))
        where = f"{node.where}.expansion_config"
        if self.work.is_done:
            return None, [], []
        given: dict[str, Any] = {"limit": self.limits.items, "where": where, "run_starlark": self.run_starlark, "work": self.work}
        cheap = not provision.made_to_count(config)
        total = expansion.count(config, data, self.context, **given) if cheap else None
        if self.rows < (total or 0) or self.rows <= 0:
            return total, [], []
        try:
            found = expansion.expand(config, data, self.context, **given)
        except expansion.BadExpansion:
            if self.work.is_done:  # together they are too much to look at while somebody waits
                return total, [], []
            raise
        self.rows -= found.total
        return found.total, [f"{name} {item.name_suffix}" for item in found.items[:NAMES]], []


class _Depth:
    """How many steps stand one after the other before each node ends."""

    def __init__(self, spec: SessionSpec) -> None:
        self.opens: dict[str, tuple[int, str]] = {ROOT: (0, "")}
        self.ends: dict[str, tuple[int, str]] = {}
        """Steps on the longest chain, and the last of them."""
        self.before: dict[str, str] = {}
        for path in spec.order:
            node = spec.nodes[path]
            reached = max(self.opens[node.parent], *(self.ends[one] for one in (*node.needs, *node.wants)), (0, ""), key=lambda at: at[0])
            if node.kind == "group":
                self.opens[path] = reached
                continue
            self.before[path] = reached[1]
            self.ends[path] = (reached[0] + 1, path)
            for group in spec.ancestors(path):
                self.ends[group] = max(self.ends.get(group, (0, "")), self.ends[path], key=lambda at: at[0])

    def level(self, path: str) -> int:
        """From 1."""
        return self.ends[path][0]

    def longest(self) -> dict[str, Any]:
        length, path = self.ends[ROOT]
        chain = []
        while path:
            chain.append(path)
            path = self.before[path]
        return {"length": length, "steps": chain[::-1]}
