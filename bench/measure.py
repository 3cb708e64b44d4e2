"""Small arithmetic and small probes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil


class Wrong(Exception):
    """A task was lost, done twice, or answered wrongly: figures would be worth nothing."""


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that at least `share` (0…1) of them do not exceed."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def kind_of(name: str) -> str:
    """`dispatch-1` → `dispatch`."""
    head, _, tail = name.rpartition("-")
    return head if head and tail.isdigit() else name


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """CPU seconds used so far, by kind of process; children included."""

    seconds: Mapping[str, float]

    def since(self, before: Cpu) -> dict[str, float]:
        return {kind: round(used - before.seconds.get(kind, 0.0), 3) for kind, used in self.seconds.items()}


def cpu(pids: Mapping[str, int]) -> Cpu:
    """Of these processes, and of ourselves: whoever submits. A process that ended meanwhile makes the measurement
    worthless: psutil.NoSuchProcess rises."""
    seconds: dict[str, float] = {"submitter": time.process_time()}
    for name, pid in pids.items():
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        used = sum(times.user + times.system for times in (member.cpu_times() for member in family))
        seconds[kind_of(name)] = seconds.get(kind_of(name), 0.0) + used
    return Cpu(seconds=seconds)
