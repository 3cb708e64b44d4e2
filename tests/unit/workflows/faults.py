"""Planted faults: engines (and plans) with one mistake each. The simulator must find every one of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any

from apps.workflows.planning import plan
from apps.workflows.planning.plan import NodeState
from apps.workflows.states import ITEM_OPEN, STEP_ENDED, STEP_STARTED, ItemStatus, SessionStatus, StepStatus
from tests.unit.workflows.world import Engine, Item, Process


class NoCompareAndSet(Engine):
    """A move is made without looking whether its start still holds."""

    def _finish(self, move: plan.Finish, seen: plan.Snapshot) -> Process:
        yield
        if move.status is StepStatus.COMPLETED and self.spec.nodes[move.path].kind == "step":
            self.store.write_context(move.path, self.outcome(move.path))
        self.store.force(move.path, move.status, partial=move.partial)
        return True


class UnkeyedChildren(Engine):
    """Ids of items are made up, not derived: expanding again makes more of them."""

    made = 0

    def item_id(self, path: str, run: int, index: int) -> Any:
        self.made += 1
        return (path, run, index + self.made * 1000)


class EarlyContext(Engine):
    """The context is written with the first result."""

    def report(self, id: Any, fence: int, attempt: int) -> Process:
        yield from super().report(id, fence, attempt)
        if self.store.items[id].status is ItemStatus.COMPLETED:
            self.store.write_context(id[0], self.outcome(id[0]))


class JoinOnCount(Engine):
    """The join counts reports instead of looking at the set of items."""

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.reports: Counter[Any] = Counter()

    def wake(self, touched: Iterable[str]) -> None:
        touched = set(touched)
        if len(touched) == 1:
            (path,) = touched
            self.world.send(lambda: self.reported(path))
        else:
            super().wake(touched)

    def reported(self, path: str) -> Process:
        node = self.store.nodes[path]
        self.reports[path, node.run] += 1
        if node.status is StepStatus.RUNNING and self.reports[path, node.run] >= node.total:
            seen = self.store.state(path)
            self.store.write_context(path, self.outcome(path))
            yield
            if self.store.move(path, seen, StepStatus.COMPLETED):
                yield from self.advance(plan.touches(self.spec, plan.Skip(path=path)))


class _Wrong(Engine):
    """A plan that sees the neighbourhood wrongly."""

    def wrong(self, path: str, state: NodeState) -> NodeState:
        raise NotImplementedError

    def look(self, touched: set[str]) -> plan.Snapshot:
        seen = super().look(touched)
        nodes = {path: state if path in touched else self.wrong(path, state) for path, state in seen.nodes.items()}
        return dataclasses.replace(seen, nodes=nodes)


class StartedIsEnough(_Wrong):
    """A dependency that has started counts as completed."""

    def wrong(self, path: str, state: NodeState) -> NodeState:
        started = state.status in STEP_STARTED and self.spec.nodes[path].kind == "step"
        return dataclasses.replace(state, status=StepStatus.COMPLETED) if started else state


class EndedIsEnough(_Wrong):
    """A required dependency that ended any way counts as completed."""

    def wrong(self, path: str, state: NodeState) -> NodeState:
        inside = self.spec.nodes[path].kind == "step"
        return dataclasses.replace(state, status=StepStatus.COMPLETED) if inside and state.status in STEP_ENDED else state


class OptionalIgnored(Engine):
    """Optional dependencies are not waited for."""

    def next_moves(self, snapshot: plan.Snapshot) -> list[plan.Move]:
        nodes = {path: dataclasses.replace(node, wants=()) for path, node in self.spec.nodes.items()}
        return plan.next_moves(dataclasses.replace(self.spec, nodes=nodes), snapshot, now=self.world.now)


class NoRepair(Engine):
    """Upkeep takes back lost leases and forgets to look at the joins again."""

    def upkeep(self) -> Process:
        process = super().upkeep()
        before = self.advance
        self.advance = lambda touched: iter(())  # type: ignore[method-assign, assignment]
        yield from process
        self.advance = before  # type: ignore[method-assign]


class AnswerBeforeSweep(Engine):
    """A cancel is answered when the session row says so, before the steps and items do."""

    def cancel(self) -> Process:
        for status in (SessionStatus.RUNNING, SessionStatus.PAUSED):
            self.end(status, self.store.session.run, SessionStatus.CANCELLED)
        self.world.cancel_answered = self.store.session.status is SessionStatus.CANCELLED
        yield
        yield from self.advance({"", *self.spec.nodes})


class LoserGoesHome(Engine):
    """Who loses a move does not look again at what became of the node. So rare that only many cancels find it."""

    def lost(self, move: plan.Move) -> set[str]:
        return set()


class NoFence(Engine):
    """Results are taken from whoever once held the item."""

    def report(self, id: Any, fence: int, attempt: int) -> Process:
        yield from super().report(id, self.store.items[id].fence, attempt)
        item = self.store.items[id]
        if item.fence != fence and item.status not in ITEM_OPEN:
            self.store.force_item(id, ItemStatus.COMPLETED)


class EndlessRetries(Engine):
    """The attempt does not rise."""

    def _start(self, move: plan.Start, seen: plan.Snapshot) -> Process:
        first = dataclasses.replace(move, attempt=1)
        for id, item in self.store.of(move.path):
            if move.attempt > 1 and item.status in (ItemStatus.FAILED, ItemStatus.TIMED_OUT):
                self.store.force_item(id, ItemStatus.PENDING, attempt=1)
        changed = yield from super()._start(first, seen)
        return changed


class GroupOfRunning(Engine):
    """A group ends when none of its members runs, though some still wait."""

    def look(self, touched: set[str]) -> plan.Snapshot:
        seen = super().look(touched)
        members = {}
        for path in touched:
            counts = self.store.members(path) if not path or self.spec.nodes[path].kind == "group" else None
            if counts and not any(counts.statuses[status] for status in (*STEP_STARTED, StepStatus.RUNNING)):
                statuses = {status: count for status, count in counts.statuses.items() if status is not StepStatus.WAITING}
                members[path] = dataclasses.replace(counts, statuses=statuses)
        return dataclasses.replace(seen, members={**members, **seen.members})


class LateItems(Engine):
    """Items of a step that is stopped are left alone."""

    def _cancelitems(self, move: plan.CancelItems, seen: plan.Snapshot) -> Process:
        yield
        state = self.store.state(move.path)
        if state.status in STEP_ENDED:
            return False
        return self.store.move(move.path, state, StepStatus.CANCELLED)


class EarlyPublish(Engine):
    """The result is told as soon as the session has ended, while its steps are still being stopped."""

    def _endsession(self, move: plan.EndSession, seen: plan.Snapshot) -> Process:
        changed = yield from super()._endsession(move, seen)
        if changed:
            yield from self._publish(plan.Publish(path=""), seen)
        return changed


class LonelyRetry(Engine):
    """A retry does what failed again, and not what was built on it."""

    def retry(self, path: str | None = None) -> Process:
        real, nodes = plan.to_rerun, self.store.nodes

        def lonely(spec: Any, states: Any, one: str) -> list[plan.Reset]:
            resets = real(spec, states, one)
            inside = spec.steps_in([one])
            kept = {path for path, node in spec.nodes.items() if node.kind == "step" and nodes[path].status is StepStatus.COMPLETED}
            return [reset for reset in resets if reset.path in inside or reset.path not in kept]

        plan.to_rerun = lonely
        try:
            yield from super().retry(path)
        finally:
            plan.to_rerun = real


class WritesTwice(Engine):
    """Makes each item of a step again when it starts its next attempt."""

    def _start(self, move: plan.Start, seen: plan.Snapshot) -> Process:
        if move.attempt > 1:
            for id, item in self.store.of(move.path):
                if item.status not in ITEM_OPEN:
                    self.store.items[id] = Item(attempt=move.attempt, fence=item.fence)
        changed = yield from super()._start(move, seen)
        return changed


FAULTS: dict[str, type[Engine]] = {
    one.__name__: one
    for one in (
        NoCompareAndSet, UnkeyedChildren, EarlyContext, JoinOnCount, StartedIsEnough, EndedIsEnough, OptionalIgnored, NoRepair,
        AnswerBeforeSweep, NoFence, EndlessRetries, GroupOfRunning, LateItems, EarlyPublish, LonelyRetry, WritesTwice,
    )
}  # fmt: skip
