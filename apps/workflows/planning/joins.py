"""Is a step done? Decided from how many of its items are in which state, never from who reported what in which order."""

from __future__ import annotations

import math
import random
from datetime import timedelta

from apps.workflows.document.spec import Join, NodeSpec, Retry
from apps.workflows.planning.moves import Counts, Decision, Verdict

MISSING = ("failed", "timed_out", "cancelled")


def join(node: NodeSpec, counts: Counts, *, attempt: int) -> Verdict:
    """What the items of a running step say. Steady: what was decided with items open is decided again once those were
    cancelled. `attempt`: the step's present one, from 1."""
    if node.task is None:
        raise ValueError(f"{node.path} is a group")
    task, missing = node.task, {name: count for name in MISSING if (count := getattr(counts, name))}

    def verdict(decision: Decision, because: str) -> Verdict:
        return Verdict(decision=decision, because=because, missing=missing)

    asked, failed = counts.total - counts.skipped, counts.failed + counts.timed_out
    need = needed(task.join, asked)
    told = f"{counts.completed} of {asked} items completed"
    if asked == 0 and need == 0:
        return verdict(Decision.HOLDS, "there was nothing to do")
    if need > asked:
        return verdict(Decision.FAILS, f"{need} items are asked for, there are {asked}")
    if task.join.rule == "first" and counts.completed >= need:
        return verdict(Decision.HOLDS, f"{told}, the first {need} were asked for")
    again = attempt <= task.retry.max_retries
    if task.fail_fast and failed and not again:
        return verdict(Decision.FAILS, f"an item {'failed' if counts.failed else 'timed out'}, and the first to fail ends the step")
    possible = counts.completed + counts.open + (failed if again else 0)
    if possible < need and not task.continue_on_error:
        return verdict(Decision.FAILS, _because(told, need, asked))
    if counts.open:
        return verdict(Decision.UNDECIDED, "")
    # Every item has ended. A rule that asks for some of them is content with those; one that asks for all tries again.
    if failed and again and possible >= need and (counts.completed < need or task.join.rule in ("all", "ended")):
        return verdict(Decision.RETRY, f"{failed} of {asked} items failed in attempt {attempt}")
    if counts.completed >= need:
        return verdict(Decision.HOLDS, told)
    return verdict(Decision.FAILS, _because(told, need, asked))


def needed(rule: Join, asked: int) -> int:
    """How many of `asked` items must complete."""
    if rule.rule in ("any", "at_least"):
        return max(1, int(rule.n))
    if rule.rule == "percent":
        return math.ceil(round(asked * rule.n / 100, 9))
    if rule.rule == "first":
        return min(int(rule.n), asked)
    return min(1, asked) if rule.rule == "ended" else asked


def _because(told: str, need: int, asked: int) -> str:
    if asked == 1:
        return "its item did not complete"
    return told if need == asked else f"{told}, {need} are needed"


def delay(retry: Retry, attempt: int, *, seed: str) -> timedelta:
    """How long to wait after attempt `attempt` (from 1) has failed. The same for the same seed, in every process."""
    if retry.delays:
        return timedelta(seconds=retry.delays[min(attempt, len(retry.delays)) - 1])
    seconds = min(retry.initial_s * retry.factor ** (attempt - 1), retry.max_s)
    return timedelta(seconds=seconds * (1 - retry.jitter * random.Random(f"{seed}#{attempt}").random()))
