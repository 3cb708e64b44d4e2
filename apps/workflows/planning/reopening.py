"""Going back: what an ended session does again on retry or re-run, and in which order its steps are undone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from apps.workflows.document.spec import ROOT, SessionSpec
from apps.workflows.planning.moves import NodeState, Reset
from apps.workflows.states import StepStatus

_EARLIEST = datetime.min.replace(tzinfo=UTC)


def to_retry(spec: SessionSpec, states: Mapping[str, NodeState]) -> list[Reset]:
    """What did not complete, and what ran on its results (or on their absence). Completed items of a step whose inputs
    stay the same are kept. Empty: everything has completed. `states`: every node of an ended session with nothing open."""
    return _resets(spec, states, frozenset())


def to_rerun(spec: SessionSpec, states: Mapping[str, NodeState], path: str) -> list[Reset]:
    """The step (or every step of the group) from the start, all that depends on it, and what did not complete."""
    return _resets(spec, states, spec.steps_in([path]))


def _resets(spec: SessionSpec, states: Mapping[str, NodeState], forced: Collection[str]) -> list[Reset]:
    changed: set[str] = set()
    """Nodes whose results may differ afterwards."""
    anew: set[str] = set()
    """Groups that wait for something that changes: all in them is done anew."""
    resets: dict[str, Reset] = {}
    for path in spec.order:  # a dependency, with all its members, comes before what depends on it
        node, state = spec.nodes[path], states[path]
        after = node.parent in anew or any(one in changed for one in (*node.needs, *node.wants))
        if node.kind == "group":
            if after:
                anew.add(path)
            if after or state.status is not StepStatus.COMPLETED:
                resets[path] = Reset(path=path)
        elif after or path in forced:
            resets[path] = Reset(path=path, because="asked for" if path in forced else "what it depends on is done again")
        elif state.status is not StepStatus.COMPLETED:
            resets[path] = Reset(path=path, keep_items=state.counts.total > 0, because="it had not completed")
        if path in resets:
            changed.update((path, *spec.ancestors(path)))
    for path in changed - {ROOT}:
        resets.setdefault(path, Reset(path=path))
    return sorted(resets.values(), key=lambda reset: spec.nodes[reset.path].position)


def compensation_order(spec: SessionSpec, ended: Mapping[str, datetime]) -> list[str]:
    """Steps to undo, one after the other: the last to end first, and never before what was built on it.
    `ended`: when each step ended that did something; those without a compensation are passed over."""
    # Clocks of different machines differ: nothing counts as ended before what it waited for.
    at: dict[str, datetime] = {}
    rank = {path: index for index, path in enumerate(spec.order)}
    for path in spec.order:
        node = spec.nodes[path]
        waited = max(at.get(one, _EARLIEST) for one in (*node.needs, *node.wants, _opened(node.parent)))
        if node.kind == "group":
            at[_opened(path)] = waited
            continue
        at[path] = max(waited, ended.get(path, _EARLIEST))
        for group in spec.ancestors(path):
            at[group] = max(at.get(group, _EARLIEST), at[path])
    undone = [path for path in ended if (task := spec.nodes[path].task) and task.compensation]
    return sorted(undone, key=lambda path: (at[path], rank[path]), reverse=True)


def _opened(group: str) -> str:
    """The opening of a group, beside its path, which stands for its end."""
    return f"{group}?"
