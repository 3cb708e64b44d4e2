"""What must hold in a simulated session, looked at before every write; and at the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from apps.workflows.document.spec import ROOT
from apps.workflows.states import (
    GROUP_STATES,
    ITEM_OPEN,
    ITEM_STATES,
    SESSION_ENDED,
    SESSION_STATES,
    STEP_ENDED,
    STEP_FAILED,
    STEP_STATES,
    ItemStatus,
    SessionStatus,
    StepStatus,
)  # fmt: skip


class Broken(AssertionError):
    """An invariant does not hold. `name` says which."""

    def __init__(self, name: str, told: str) -> None:
        super().__init__(f"{name}: {told}")
        self.name = name


class Checks:
    def __init__(self) -> None:
        self.world: Any = None
        self.clock = 0
        self.began: dict[tuple[str, int], int] = {}
        """When each (node, run) started, in ticks."""
        self.ended: dict[str, int] = {}
        self.joins: Counter[tuple[str, int, int]] = Counter()
        self.attempts: Counter[Any] = Counter()
        self.done: set[Any] = set()
        self.published_runs: set[int] = set()

    def fail(self, name: str, told: str) -> None:
        raise Broken(name, told)

    # -- writes --
    def node_moves(self, store: Any, path: str, node: Any, end: StepStatus, values: dict[str, Any]) -> None:
        self.clock += 1
        spec = store.spec.nodes[path]
        table = STEP_STATES if spec.kind == "step" else GROUP_STATES
        if not table.allows(node.status, end):
            self.fail("I2 states", f"{path}: {node.status} → {end}")
        if node.status is StepStatus.WAITING and end in (StepStatus.EXPANDING, StepStatus.RUNNING):
            self._starts(store, path)
        if end is StepStatus.SKIPPED:
            self._skips(store, path)
        if end is StepStatus.COMPLETED:
            self._completes(store, path, node)
        if end in STEP_ENDED:
            self.ended[path] = self.clock

    def _starts(self, store: Any, path: str) -> None:
        spec = store.spec.nodes[path]
        for needed in spec.needs:
            state, policy = store.nodes[needed].status, store.spec.nodes[needed].on_failure
            if state is not StepStatus.COMPLETED and not (state in STEP_FAILED and policy == "continue"):
                self.fail("I11 needs", f"{path} starts while {needed} is {state}")
        for wanted in spec.wants:
            if store.nodes[wanted].status not in STEP_ENDED:
                self.fail("I11 wants", f"{path} starts while {wanted} is {store.nodes[wanted].status}")
        if self.world.cancel_answered:
            self.fail("I13 cancel", f"{path} starts after the cancel was answered")
        if spec.parent and store.nodes[spec.parent].status is StepStatus.WAITING:
            self.fail("I11 group", f"{path} starts before {spec.parent}")
        self.began[path, store.nodes[path].run] = self.clock

    def _skips(self, store: Any, path: str) -> None:
        spec = store.spec.nodes[path]
        above = [ROOT, *([spec.parent] if spec.parent else [])]
        over = store.session.status in SESSION_ENDED or any(one and store.nodes[one].status in STEP_ENDED for one in above)
        if not over and not any(store.nodes[one].status in STEP_ENDED - {StepStatus.COMPLETED} for one in spec.needs):
            self.fail("I11 skip", f"{path} is skipped for no reason")

    def _completes(self, store: Any, path: str, node: Any) -> None:
        if store.spec.nodes[path].kind == "group":
            for member in store.spec.members(path):
                state = store.nodes[member].status
                fatal = state in STEP_FAILED and store.spec.nodes[member].on_failure == "fail"
                if state not in STEP_ENDED or fatal:
                    self.fail("I12 group", f"{path} completes while {member} is {state}")
            return
        self.joins[path, node.run, node.attempt] += 1
        if self.joins[path, node.run, node.attempt] > 1:
            self.fail("I12 join", f"{path} completes twice")
        if (path, node.run, node.attempt) not in store.context:
            self.fail("I9 context", f"{path} completes without its context")
        self._all_ended(store, path, "I12 join")

    def _all_ended(self, store: Any, path: str, name: str) -> None:
        items = store.of(path)
        if len(items) != store.nodes[path].total or any(item.status in ITEM_OPEN for _, item in items):
            self.fail(name, f"{path} with {[str(item.status) for _, item in items]} of {store.nodes[path].total}")

    def item_moves(self, store: Any, id: Any, item: Any, end: ItemStatus, values: dict[str, Any]) -> None:
        # A cancelled item begins again only when an ended session is taken up again.
        again = item.status is ItemStatus.CANCELLED and end is ItemStatus.PENDING and store.session.run > 1
        if not ITEM_STATES.allows(item.status, end) and not again:
            self.fail("I2 states", f"item {id}: {item.status} → {end}")
        if values.get("fence", item.fence + 1) <= item.fence:
            self.fail("I6 fence", f"item {id}")
        if end is ItemStatus.RUNNING:
            if self.world.cancel_answered:
                self.fail("I13 cancel", f"item {id} starts after the cancel was answered")
            if store.nodes[id[0]].status in STEP_ENDED:
                self.fail("I13 ended", f"item {id} starts in a step that is {store.nodes[id[0]].status}")
        if end is ItemStatus.COMPLETED:
            if id in self.done:
                self.fail("I8 one result", f"item {id} completes a second time")
            self.done.add(id)
        if end in (ItemStatus.COMPLETED, ItemStatus.FAILED):
            self.attempts[id] += 1
            most = 1 + store.spec.nodes[id[0]].task.retry.max_retries + self.world.engine.retries_manual
            if self.attempts[id] > most:
                self.fail("I7 attempts", f"item {id} was done {self.attempts[id]} times")

    def item_made(self, store: Any, id: Any) -> None:
        path, run, index = id
        made = sum(1 for one in store.items if one[0] == path and one[1] == run)
        if made > self.world.sizes.get(path, 1):
            self.fail("I10 children", f"{path} has {made} items")

    def context_written(self, store: Any, path: str, values: list[Any]) -> None:
        node = store.nodes[path]
        self._all_ended(store, path, "I9 context")
        before = store.context.get((path, node.run, node.attempt))
        if before is not None and before != values:
            self.fail("I9 context", f"{path} writes {values} after {before}")

    def session_moves(self, store: Any, start: SessionStatus, end: SessionStatus) -> None:
        if not SESSION_STATES.allows(start, end):
            self.fail("I2 states", f"session: {start} → {end}")
        if end is SessionStatus.COMPLETED:
            for group in store.spec.members(ROOT):
                state = store.nodes[group].status
                if state not in STEP_ENDED or (state in STEP_FAILED and store.spec.nodes[group].on_failure == "fail"):
                    self.fail("I12 session", f"completes while {group} is {state}")

    def published(self, store: Any) -> None:
        if store.session.run in self.published_runs:
            self.fail("publish once", f"run {store.session.run}")
        self.published_runs.add(store.session.run)
        if store.open_node() or store.session.status not in SESSION_ENDED:
            self.fail("publish last", self.world.told())

    # -- at the end --
    def at_rest(self, store: Any) -> None:
        if store.session.status not in SESSION_ENDED or store.open_node() or not store.session.published:
            self.fail("I1 all end", f"session {store.session.status}: {self.world.told()}")
        for (path, run, _), item in store.items.items():
            if run == store.nodes[path].run and item.status in ITEM_OPEN:
                self.fail("I1 all end", f"an item of {path} is {item.status}")
        for path, node in store.nodes.items():
            if node.status is not StepStatus.COMPLETED or store.spec.nodes[path].kind != "step":
                continue
            began = self.began[path, node.run]
            for waited in (*store.spec.nodes[path].needs, *store.spec.nodes[path].wants):
                if self.ended[waited] > began:
                    self.fail("I11 again", f"{path} ran on what {waited} was before it was done again")


def watched(world_class: Any, *args: Any, **kwargs: Any) -> Any:
    """A world with its checks."""
    checks = Checks()
    world = world_class(*args, watch=checks, **kwargs)
    checks.world = world
    return world
