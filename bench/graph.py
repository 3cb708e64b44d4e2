"""Graphs that are measured, and how fast they could run: list scheduling without any overhead."""

from __future__ import annotations

import heapq
import random
from collections import deque
from typing import Any


def seeded(tasks: int, edges: int, *, seed: int, chain: bool = False) -> list[list[int]]:
    """The parents of each task. Edges lead from earlier tasks to later ones, mostly near ones, as in real workflows."""
    if chain:
        return [[number - 1] if number else [] for number in range(tasks)]
    rng = random.Random(seed)
    parents: list[set[int]] = [set() for _ in range(tasks)]
    made = 0
    while made < edges:
        child = rng.randrange(1, tasks)
        reach = max(1, tasks // 10)
        parent = rng.randrange(max(0, child - reach), child)
        if parent not in parents[child]:
            parents[child].add(parent)
            made += 1
    return [sorted(found) for found in parents]


def ideal(parents: list[list[int]], seconds: float, slots: int) -> float:
    """Seconds with so many slots, each task as soon as a slot is free and its parents ended, in the order they became ready."""
    children: list[list[int]] = [[] for _ in parents]
    open_parents = [len(before) for before in parents]
    for child, before in enumerate(parents):
        for parent in before:
            children[parent].append(child)
    ready = deque(number for number, left in enumerate(open_parents) if not left)
    running: list[tuple[float, int]] = []
    at = 0.0
    while ready or running:
        while ready and len(running) < slots:
            heapq.heappush(running, (at + seconds, ready.popleft()))
        at, ended = heapq.heappop(running)
        for child in children[ended]:
            open_parents[child] -= 1
            if not open_parents[child]:
                ready.append(child)
    return at


def document_of(parents: list[list[int]], seconds: float) -> dict[str, Any]:
    nap = {"agent_class": "BenchNap", "input": {"seconds": seconds}}
    return {"tasks": [{"key": f"t{number}", "dependencies": [f"t{one}" for one in before], **nap} for number, before in enumerate(parents)]}
