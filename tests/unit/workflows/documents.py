"""Random session documents, small and full of everything."""

from __future__ import annotations

import copy
import random
from typing import Any

JOINS: list[Any] = [None, "all", "any", {"at_least": 2}, {"percent": 50}, {"first": 1}, {"first": 2}]


def random_document(
    rng: random.Random,
    *,
    policies: tuple[str, ...] = ("fail", "skip", "continue"),
    timeouts: bool = True,
    joins: list[Any] = JOINS,
) -> tuple[dict[str, Any], dict[str, int]]:
    """(document, how many items each step expands to)."""
    sizes: dict[str, int] = {}
    ahead: list[str] = []
    """Paths that a later node may wait for: nodes before it that are not around it."""

    def waits(node: dict[str, Any], around: str) -> None:
        possible = [path for path in ahead if not around.startswith(path + ".") and around != path]
        chosen = rng.sample(possible, min(len(possible), rng.choice([0, 1, 1, 2, 3])))
        optional = [path for path in chosen if rng.random() < 0.25]
        node["dependencies"] = [path for path in chosen if path not in optional]
        node["optional_dependencies"] = optional

    def task(key: str, group: str) -> dict[str, Any]:
        path = f"{group}.{key}"
        node: dict[str, Any] = {"key": key, "result_keys": [], "on_failure": rng.choice(policies), "max_retries": rng.choice([0, 0, 1, 2])}
        node["retry_delays"] = [rng.choice([0, 1, 30])]
        waits(node, group)
        if rng.random() < 0.5:
            sizes[path] = rng.choice([0, 1, 2, 3, 5])
            node["rows"] = list(range(sizes[path]))
            node["expansion_config"] = {"type": "array", "array_mapping": {"row": "rows"}}
            if join := rng.choice(joins):
                node["join"] = copy.deepcopy(join)
            node[rng.choice(["fail_fast", "continue_on_error", "chunk"])] = rng.random() < 0.5
        if timeouts and rng.random() < 0.1:
            node["step_timeout_s"] = rng.choice([5, 60])
        ahead.append(path)
        return node

    def group(key: str, parent: str, level: int) -> dict[str, Any]:
        path = f"{parent}.{key}" if parent else key
        node: dict[str, Any] = {"key": key, "on_failure": rng.choice(policies)}
        waits(node, parent)
        if timeouts and rng.random() < 0.05:
            node["timeout_s"] = 30
        node["tasks"] = [task(f"t{number}", path) for number in range(rng.randint(1, 4))]
        if level < 3 and rng.random() < 0.35:
            node["task_groups"] = [group("in", path, level + 1)]
        ahead.append(path)
        return node

    document: dict[str, Any] = {"task_groups": [group(f"g{number}", "", 1) for number in range(rng.randint(1, 3))]}
    if timeouts and rng.random() < 0.05:
        document["timeout_s"] = 60
    return document, sizes


def without_races(group: dict[str, Any]) -> None:
    """Nothing in it stops at the first failure: how it ends does not depend on who is first."""
    for task in group.get("tasks", ()):
        task.pop("fail_fast", None)
        task.pop("continue_on_error", None)
        if "expansion_config" in task:
            task["continue_on_error"] = True
    for inner in group.get("task_groups", ()):
        without_races(inner)
