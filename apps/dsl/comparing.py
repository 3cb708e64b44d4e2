"""Two answers to the same question: did the decision flip, and what became of the order of the queue? Pure functions."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.dsl.policies import Hook
from apps.dsl.script_tests import same
from apps.orgs.config_keys import OrgConfig

MESSAGES = 10
MOVERS = 20
NOBODY = "no pick"


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What came of a question: a parsed output, or an error."""

    output: dict[str, Any] | None
    error: str

    def json(self, decision: Any) -> dict[str, Any]:
        reason = (self.output or {}).get("reason")
        return {"decision": decision, "reason": reason if isinstance(reason, str) else "", "output": self.output, "error": self.error}


def decision(hook: Hook, said: Said, inputs: dict[str, Any], config: OrgConfig) -> Any:
    """What the platform does about it: accept, reject or hold; a priority; the terms of an auction; an agent."""
    output = None if said.error else said.output
    if hook is Hook.APPROVAL:
        if output is None:
            return "reject" if config.approval_on_error == "reject" else "hold"
        return {True: "accept", False: "reject"}.get(output.get("accepted"), "hold")
    if hook is Hook.PRIORITY:
        if output is not None:
            return output["priority"]
        own = inputs["task"].get("priority", 0) if isinstance(inputs.get("task"), dict) else 0
        return config.priority_on_error if config.priority_on_error is not None else own
    if hook is Hook.PLAN_RETRIEVE:
        return NOBODY if output is None else output["head_agent_subject_id"]
    return None if output is None else {name: value for name, value in output.items() if name != "reason"}


def change(hook: Hook, old: Any, new: Any) -> str:
    """"" when the decision stays; else what to call the change, from a small set."""
    if same(old, new):
        return ""
    if hook is Hook.APPROVAL:
        return f"{old} -> {new}"
    if hook is Hook.PRIORITY:
        return "raised" if new > old else "lowered"
    if hook is Hook.PLAN_RETRIEVE:
        return "now picks" if old == NOBODY else "picks no more" if new == NOBODY else "picks another"
    return "now sets terms" if old is None else "sets no terms more" if new is None else "other terms"


def told(hook: Hook, result: Mapping[str, Any]) -> str:
    """The result of a backtest in a sentence or two. (A Tally's JSON.)"""
    runs, flipped, errors = result["runs"], result["flipped"], result["errors"]["draft"]
    how = ", ".join(f"{count:,} {what}" for what, count in result["changes"].items())
    found = f"{flipped:,} of {_decisions(runs)} would be another: {how}." if flipped else f"None of {_decisions(runs)} would be another."
    if errors:
        found += f" The script gave no answer to {errors:,} of them: {result['errors']['messages'][0]['message'].rstrip('.')}."
    queue = result.get("queue")
    if hook is Hook.PRIORITY and queue and queue["moved"]:
        first = queue["movers"][0]
        furthest = f"{first['task_key'].partition('/')[2]} from place {first['from']:,} to {first['to']:,}"
        found += f" If all of them waited at once, {queue['moved']:,} would stand elsewhere, the furthest {furthest}."
    return found


def _decisions(count: int) -> str:
    return f"{count:,} recorded decision{'' if count == 1 else 's'}"


@dataclass(kw_only=True)
class Tally:
    """Counts of a backtest as it goes along. Holds two numbers per decision, never an input."""

    hook: Hook
    runs: int = 0
    flipped: int = 0
    reasons_changed: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    old_errors: int = 0
    new_errors: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    durations: array[int] = field(default_factory=lambda: array("I"))
    old_priorities: array[int] = field(default_factory=lambda: array("h"))
    new_priorities: array[int] = field(default_factory=lambda: array("h"))
    task_keys: list[str] = field(default_factory=list)

    def add(self, task_key: str, old: Any, new: Any, before: Said, after: Said, duration_us: int) -> str:
        """The change, "" for none."""
        what = change(self.hook, old, new)
        self.runs += 1
        self.durations.append(min(duration_us, 2**32 - 1))
        self.old_errors += bool(before.error)
        if after.error:
            self.new_errors += 1
            if after.error in self.messages or len(self.messages) < 1000:
                self.messages[after.error[:200]] += 1
        if what:
            self.flipped += 1
            self.changes[what] += 1
        elif (before.output or {}).get("reason", "") != (after.output or {}).get("reason", ""):
            self.reasons_changed += 1
        if self.hook is Hook.PRIORITY:
            self.old_priorities.append(max(-1000, min(1000, old)))
            self.new_priorities.append(max(-1000, min(1000, new)))
            self.task_keys.append(task_key)
        return what

    def json(self) -> dict[str, Any]:
        ordered = sorted(self.durations)
        shown = {
            "runs": self.runs,
            "unchanged": self.runs - self.flipped,
            "flipped": self.flipped,
            "changes": dict(self.changes.most_common()),
            "reasons_changed": self.reasons_changed,
            "errors": {
                "recorded": self.old_errors,
                "draft": self.new_errors,
                "messages": [{"message": message, "count": count} for message, count in self.messages.most_common(MESSAGES)],
            },
            "call_us": {"p50": _at(ordered, 0.5), "p99": _at(ordered, 0.99), "max": ordered[-1] if ordered else 0},
        }
        if self.hook is Hook.PRIORITY:
            shown["queue"] = queue_shift(self.old_priorities, self.new_priorities, self.task_keys)
        return shown


def queue_shift(old: array[int], new: array[int], task_keys: list[str]) -> dict[str, Any]:
    """As if all of them waited at once, in their order of arrival: higher first, first come first served among equals.

    `kendall_tau` is 1 for the same order and -1 for the reverse; None for fewer than two.
    """
    count = len(old)
    before = sorted(range(count), key=lambda place: (-old[place], place))
    after = sorted(range(count), key=lambda place: (-new[place], place))
    stands = array("l", bytes(array("l").itemsize * count))
    for rank, place in enumerate(after):
        stands[place] = rank
    shifts = [(stands[place] - rank, place, rank) for rank, place in enumerate(before)]
    movers = sorted(((shift, place, rank) for shift, place, rank in shifts if shift), key=lambda each: (-abs(each[0]), each[1]))
    inversions = _inversions([stands[place] for place in before]) if movers else 0
    pairs = count * (count - 1) // 2
    return {
        "kendall_tau": round(1 - 2 * inversions / pairs, 6) if pairs else None,
        "pairs_swapped": inversions,
        "moved": len(movers),
        "movers": [
            {
                "task_key": task_keys[place],
                "from": rank + 1,
                "to": rank + 1 + shift,
                "old_priority": old[place],
                "new_priority": new[place],
            }
            for shift, place, rank in movers[:MOVERS]
        ],
    }


def _inversions(order: list[int]) -> int:
    """Pairs that stand the wrong way round, in n log n (a Fenwick tree over the ranks)."""
    count = len(order)
    tree = [0] * (count + 1)
    found = 0
    for seen, rank in enumerate(order):
        place, smaller = rank + 1, 0
        while place:
            smaller += tree[place]
            place &= place - 1
        found += seen - smaller
        place = rank + 1
        while place <= count:
            tree[place] += 1
            place += place & -place
    return found


def _at(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0
