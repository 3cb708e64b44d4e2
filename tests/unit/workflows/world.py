"""A whole engine on dicts, driven by one seeded heap of events: a store with compare-and-set, coordinators, workers, upkeep,
people. What the real engine does with databases and queues, this does with generators: each `yield` is a place where the
process may be overtaken or die. Messages get lost, doubled, late and out of order; the clock may jump.

`Engine` carries out the plan's moves; the planted faults of `faults.py` are its subclasses. Every write goes through
`Store`, where `checks.py` looks at it.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.workflows.document.spec import ROOT, SessionSpec
from apps.workflows.planning import plan
from apps.workflows.planning.plan import Counts, Members, NodeState, SessionState
from apps.workflows.states import (
    ITEM_OPEN,
    SESSION_ENDED,
    STEP_ENDED,
    STEP_FAILED,
    ItemStatus,
    SessionStatus,
    StepStatus,
)  # fmt: skip

START = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = 20.0
"""seconds a worker or an expanding coordinator is believed to live"""
Process = Generator[float | None, None, Any]
"""Yields how long it sleeps; None: a moment."""


@dataclass
class Node:
    status: StepStatus = StepStatus.WAITING
    run: int = 1
    attempt: int = 0
    partial: bool = False
    total: int = 0
    retry_at: datetime | None = None
    deadline: datetime | None = None
    busy_until: datetime | None = None


@dataclass
class Item:
    status: ItemStatus = ItemStatus.PENDING
    attempt: int = 1
    fence: int = 0
    lease_until: datetime | None = None
    result: Any = None


@dataclass
class Session:
    status: SessionStatus = SessionStatus.RUNNING
    run: int = 1
    deadline: datetime | None = None
    paused_at: datetime | None = None
    published: bool = False
    todo: list[plan.Reset] = field(default_factory=list)
    """Resets of a retry that was recorded and is not carried out yet."""


ItemId = tuple[str, int, Any]


class Store:
    """The truth. `watch` sees every change before it happens."""

    def __init__(self, spec: SessionSpec, watch: Any) -> None:
        self.spec, self.watch = spec, watch
        self.session = Session()
        self.nodes = {path: Node() for path in spec.nodes}
        self.items: dict[ItemId, Item] = {}
        self.context: dict[tuple[str, int, int], list[Any]] = {}

    # -- what `look` asks --
    def nodes_state(self, paths: Iterable[str]) -> dict[str, NodeState]:
        return {path: self.state(path) for path in paths}

    def state(self, path: str) -> NodeState:
        node = self.nodes[path]
        return NodeState(
            status=node.status, run=node.run, attempt=node.attempt, partial=node.partial, counts=self.counts(path),
            retry_at=node.retry_at, deadline=node.deadline, busy_until=node.busy_until,
        )  # fmt: skip

    def session_state(self) -> SessionState:
        session = self.session
        return SessionState(key="acme/s", status=session.status, run=session.run, deadline=session.deadline, published=session.published)

    def of(self, path: str) -> list[tuple[ItemId, Item]]:
        run = self.nodes[path].run
        return [(id, item) for id, item in self.items.items() if id[0] == path and id[1] == run]

    def counts(self, path: str) -> Counts:
        if self.spec.nodes[path].kind == "group":
            return Counts()
        found = Counter(item.status.value for _, item in self.of(path))
        return Counts(total=self.nodes[path].total, **found)

    def open_member(self, group: str) -> bool:
        return any(self.nodes[path].status not in STEP_ENDED for path in self.spec.members(group))

    def members(self, group: str) -> Members:
        inside = [(self.spec.nodes[path], self.nodes[path]) for path in self.spec.members(group)]
        return Members(
            statuses=Counter(row.status for _, row in inside),
            fatal=sum(row.status in STEP_FAILED and node.on_failure == "fail" for node, row in inside),
            partial=sum(row.partial for _, row in inside),
        )

    def open_node(self) -> bool:
        return any(node.status not in STEP_ENDED for node in self.nodes.values())

    # -- writes --
    def move(self, path: str, seen: NodeState, end: StepStatus, **values: Any) -> bool:
        node = self.nodes[path]
        if (node.status, node.run, node.attempt) != (seen.status, seen.run, seen.attempt):
            return False
        self.force(path, end, **values)
        return True

    def force(self, path: str, end: StepStatus, **values: Any) -> None:
        node = self.nodes[path]
        if node.status is not end:
            self.watch.node_moves(self, path, node, end, values)
        node.status = end
        for name, value in values.items():
            setattr(node, name, value)

    def move_item(self, id: ItemId, start: ItemStatus, end: ItemStatus, held: int | None = None, **values: Any) -> bool:
        """`held`: the fencing number under which the caller holds it."""
        item = self.items[id]
        if item.status is not start or (held is not None and item.fence != held):
            return False
        self.force_item(id, end, **values)
        return True

    def force_item(self, id: ItemId, end: ItemStatus, **values: Any) -> None:
        item = self.items[id]
        self.watch.item_moves(self, id, item, end, values)
        item.status = end
        for name, value in values.items():
            setattr(item, name, value)

    def write_context(self, path: str, values: list[Any]) -> None:
        """Once per (step, run, attempt): a second time changes nothing."""
        self.watch.context_written(self, path, values)
        self.context.setdefault((path, self.nodes[path].run, self.nodes[path].attempt), values)


class _Asked:
    """The store as a `plan.Reader`."""

    def __init__(self, store: Store) -> None:
        self.nodes, self.members = store.nodes_state, store.members
        self.open_member, self.open_node = store.open_member, store.open_node

    def statuses(self, paths: Iterable[str]) -> dict[str, StepStatus]:
        return {path: state.status for path, state in self.nodes(paths).items()}


@dataclass(kw_only=True)
class Weather:
    """How bad it is: chances per message or per step of a process."""

    drop: float = 0.0
    double: float = 0.0
    late: float = 0.0
    crash: float = 0.0
    jump: float = 0.0


CALM = Weather()
STORM = Weather(drop=0.2, double=0.2, late=0.2, crash=0.03, jump=0.002)


class World:
    """The heap, the clock, the wire, and one engine."""

    def __init__(
        self,
        spec: SessionSpec,
        seed: int,
        *,
        watch: Any,
        engine: type[Engine] | None = None,
        weather: Weather = CALM,
        behaviour: Callable[[str, int, int], bool] = lambda path, index, attempt: True,
        sizes: dict[str, int] | None = None,
    ) -> None:
        self.spec, self.random, self.weather = spec, random.Random(seed), weather
        self.now, self.behaviour, self.sizes = START, behaviour, sizes or {}
        self.store = Store(spec, watch)
        self.watch = watch
        self.heap: list[tuple[datetime, int, float, Process]] = []
        self.sequence = 0
        self.effects: Counter[ItemId] = Counter()
        self.cancel_answered = False
        self.engine = (engine or Engine)(self)
        if spec.timeout_s:
            self.store.session.deadline = START + timedelta(seconds=spec.timeout_s)

    def spawn(self, process: Process, after: float = 0.0, *, safe: bool = False) -> None:
        """`safe`: it is not killed (a person tries again until the answer comes)."""
        self.sequence += 1
        heapq.heappush(self.heap, (self.now + timedelta(seconds=after), self.sequence, self.weather.crash * (not safe), process))

    def send(self, make: Callable[[], Process]) -> None:
        """A message whose receipt starts a process."""
        if self.random.random() < self.weather.drop:
            return
        for _ in range(2 if self.random.random() < self.weather.double else 1):
            late = self.random.random() < self.weather.late
            self.spawn(make(), self.random.uniform(0, 40.0 if late else 0.05))

    def run(self, *, until: float, most: int = 200_000) -> None:
        """Events until nothing is left or `until` seconds have passed."""
        end = self.now + timedelta(seconds=until)
        for _ in range(most):
            if not self.heap or self.heap[0][0] > end:
                self.now = max(self.now, end) if self.heap else self.now
                return
            at, _, crash, process = heapq.heappop(self.heap)
            self.now = max(self.now, at)
            if self.random.random() < self.weather.jump:
                self.now += timedelta(seconds=self.random.choice([30, 600]))
                end += timedelta(seconds=600)
            if crash and self.random.random() < crash:
                process.close()
                continue
            try:
                sleep = next(process)
            except StopIteration:
                continue
            self.sequence += 1
            later = self.random.uniform(0.0, 0.02) if sleep is None else sleep
            heapq.heappush(self.heap, (self.now + timedelta(seconds=later), self.sequence, crash, process))
        raise AssertionError("it never comes to rest")

    def heal(self) -> None:
        """No more faults; upkeep until nothing changes any more."""
        self.weather = CALM
        self.heap = [(at, order, 0.0, process) for at, order, _, process in self.heap]
        for _ in range(60):
            self.spawn(self.engine.upkeep())
            self.run(until=LEASE + 10)
            if self.store.session.published and not self.heap:
                return
        raise AssertionError(f"after healing the session is {self.store.session.status.value}: " + self.told())

    def told(self) -> str:
        return ", ".join(f"{path}={node.status.value}" for path, node in self.store.nodes.items() if node.status not in STEP_ENDED)


class Engine:
    """Carries moves out. The order of its writes is that of the real one."""

    retries_manual = 0

    def __init__(self, world: World) -> None:
        self.world, self.store, self.spec = world, world.store, world.spec

    # -- coordinator --
    def begin(self) -> None:
        self.wake({ROOT, *self.spec.members(ROOT)})
        self.world.spawn(self.ticking(), safe=True)

    def wake(self, touched: Iterable[str]) -> None:
        touched = set(touched)
        self.world.send(lambda: self.advance(touched))

    def look(self, touched: set[str]) -> plan.Snapshot:
        return plan.look(self.spec, _Asked(self.store), self.store.session_state(), touched)

    def next_moves(self, snapshot: plan.Snapshot) -> list[plan.Move]:
        return plan.next_moves(self.spec, snapshot, now=self.world.now)

    def advance(self, touched: set[str]) -> Process:
        while touched and not self.store.session.todo:
            snapshot = self.look(touched)
            yield
            touched = set()
            for move in self.next_moves(snapshot):
                changed = yield from getattr(self, f"_{type(move).__name__.lower()}")(move, snapshot)
                # Who loses looks again: the winner may have started what this one was sent to stop.
                touched |= plan.touches(self.spec, move) if changed else self.lost(move)
                yield

    def lost(self, move: plan.Move) -> set[str]:
        return set() if isinstance(move, plan.Publish) else {move.path}

    def _open(self, move: plan.Open, seen: plan.Snapshot) -> Process:
        yield
        return self.store.move(move.path, seen.nodes[move.path], StepStatus.RUNNING, deadline=move.deadline)

    def _start(self, move: plan.Start, seen: plan.Snapshot) -> Process:
        state, world = seen.nodes[move.path], self.world
        if state.status is StepStatus.EXPANDING and self.store.nodes[move.path].busy_until != state.busy_until:
            return False
        busy = world.now + timedelta(seconds=LEASE)
        values = {"attempt": move.attempt, "deadline": move.deadline, "busy_until": busy}
        if not self.store.move(move.path, state, StepStatus.EXPANDING, **values):
            return False
        yield
        node, run = self.store.nodes[move.path], self.store.nodes[move.path].run
        total = world.sizes.get(move.path, 1)
        for index in range(total):
            id = self.item_id(move.path, run, index)
            if id not in self.store.items:
                self.store.items[id] = Item(attempt=move.attempt)
                self.store.watch.item_made(self.store, id)
            item = self.store.items[id]
            if item.attempt < move.attempt and item.status in (ItemStatus.FAILED, ItemStatus.TIMED_OUT, ItemStatus.CANCELLED):
                self.store.force_item(id, ItemStatus.PENDING, attempt=move.attempt)
            if index % 2:
                yield
        yield
        now = NodeState(status=StepStatus.EXPANDING, run=run, attempt=move.attempt)
        if not self.store.move(move.path, now, StepStatus.RUNNING, total=total):
            return False
        yield
        self.send_chunks(move.path, run, node.attempt)
        return True

    def item_id(self, path: str, run: int, index: int) -> ItemId:
        return (path, run, index)

    def send_chunks(self, path: str, run: int, attempt: int) -> None:
        size = self.world.sizes.get(path, 1)
        for first in range(0, size, 2):
            self.world.send(lambda first=first: self.work(path, run, attempt, range(first, min(first + 2, size))))

    def _retry(self, move: plan.Retry, seen: plan.Snapshot) -> Process:
        yield
        if not self.store.move(move.path, seen.nodes[move.path], StepStatus.RETRYING, retry_at=move.at):
            return False
        wait = (move.at - self.world.now).total_seconds()
        self.world.spawn(self.advance({move.path}), wait + 0.001)
        return True

    def _cancelitems(self, move: plan.CancelItems, seen: plan.Snapshot) -> Process:
        changed = False
        for id, item in self.store.of(move.path):
            if item.status in ITEM_OPEN:
                changed |= self.store.move_item(id, item.status, ItemStatus.CANCELLED)
                yield
        return changed

    def _finish(self, move: plan.Finish, seen: plan.Snapshot) -> Process:
        if move.status is StepStatus.COMPLETED and self.spec.nodes[move.path].kind == "step":
            self.store.write_context(move.path, self.outcome(move.path))
            yield
        return self.store.move(move.path, seen.nodes[move.path], move.status, partial=move.partial)

    def outcome(self, path: str) -> list[Any]:
        return [item.result for _, item in sorted(self.store.of(path), key=lambda pair: pair[0][2])]

    def _skip(self, move: plan.Skip, seen: plan.Snapshot) -> Process:
        yield
        return self.store.move(move.path, seen.nodes[move.path], StepStatus.SKIPPED)

    def _endsession(self, move: plan.EndSession, seen: plan.Snapshot) -> Process:
        yield
        return self.end(seen.session.status, seen.session.run, move.status)

    def end(self, start: SessionStatus, run: int, end: SessionStatus) -> bool:
        session = self.store.session
        if session.status is not start or session.run != run:
            return False
        self.store.watch.session_moves(self.store, session.status, end)
        session.status = end
        return True

    def _publish(self, move: plan.Publish, seen: plan.Snapshot) -> Process:
        yield
        session = self.store.session
        if not session.published and session.run == seen.session.run:
            self.store.watch.published(self.store)
            session.published = True
        return False

    # -- workers --
    def work(self, path: str, run: int, attempt: int, indexes: Iterable[int]) -> Process:
        for index in indexes:
            id = self.item_id(path, run, index)
            node = self.store.nodes[path]
            if (node.status, node.run, node.attempt) != (StepStatus.RUNNING, run, attempt) or id not in self.store.items:
                return
            item = self.store.items[id]
            fence = item.fence + 1
            lease = self.world.now + timedelta(seconds=LEASE)
            yield
            if not self.claim(id, fence, lease):
                continue
            yield
            # The work itself; now and then its worker is frozen for longer than its lease.
            if self.world.random.random() < self.world.weather.late / 4:
                self.world.spawn(self.report(id, fence, item.attempt), LEASE + 5)
            else:
                yield from self.report(id, fence, item.attempt)
        self.wake({path})

    def claim(self, id: ItemId, fence: int, lease: datetime) -> bool:
        return self.store.move_item(id, ItemStatus.PENDING, ItemStatus.RUNNING, held=fence - 1, fence=fence, lease_until=lease)

    def report(self, id: ItemId, fence: int, attempt: int) -> Process:
        good = self.world.behaviour(id[0], id[2], attempt)
        end = ItemStatus.COMPLETED if good else ItemStatus.FAILED
        if self.store.move_item(id, ItemStatus.RUNNING, end, held=fence, result=f"{id[0]}/{id[2]}" if good else None):
            self.world.effects[id] += 1
            yield
            self.wake({id[0]})

    # -- upkeep --
    def ticking(self) -> Process:
        """Upkeep every few seconds."""
        while not self.store.session.published:
            self.world.spawn(self.upkeep())
            yield 5.0

    def upkeep(self) -> Process:
        now = self.world.now
        yield from self.reset_nodes()
        for id, item in list(self.store.items.items()):
            if item.status is ItemStatus.RUNNING and item.lease_until is not None and item.lease_until <= now:
                self.store.move_item(id, ItemStatus.RUNNING, ItemStatus.PENDING, held=item.fence)
                yield
        if self.store.session.status is SessionStatus.RUNNING:
            for path in self.spec.steps:
                node = self.store.nodes[path]
                if node.status is StepStatus.RUNNING and any(item.status is ItemStatus.PENDING for _, item in self.store.of(path)):
                    self.send_chunks(path, node.run, node.attempt)
        yield from self.advance({ROOT, *self.spec.nodes})

    # -- people --
    def cancel(self) -> Process:
        for status in (SessionStatus.RUNNING, SessionStatus.PAUSED):
            self.end(status, self.store.session.run, SessionStatus.CANCELLED)
        yield
        yield from self.advance({ROOT, *self.spec.nodes})
        self.world.cancel_answered = self.store.session.status is SessionStatus.CANCELLED

    def pause(self) -> Process:
        if self.end(SessionStatus.RUNNING, self.store.session.run, SessionStatus.PAUSED):
            self.store.session.paused_at = self.world.now
        yield

    def resume(self) -> Process:
        session = self.store.session
        if session.status is SessionStatus.PAUSED and session.paused_at is not None:
            stood = self.world.now - session.paused_at
            for row in (session, *(node for node in self.store.nodes.values() if node.status not in STEP_ENDED)):
                row.deadline = row.deadline and row.deadline + stood
            self.end(SessionStatus.PAUSED, session.run, SessionStatus.RUNNING)
        yield
        yield from self.upkeep()

    def retry(self, path: str | None = None) -> Process:
        """Record what is asked, then do it; upkeep goes on with it if this process dies."""
        session = self.store.session
        if session.status not in SESSION_ENDED or not session.published:
            return
        states = self.store.nodes_state(self.spec.nodes)
        resets = plan.to_rerun(self.spec, states, path) if path else plan.to_retry(self.spec, states)
        yield
        if resets and session.published and not session.todo:
            session.status, session.run, session.published, session.deadline = SessionStatus.RUNNING, session.run + 1, False, None
            session.todo = resets
            self.retries_manual += 1
            self.world.cancel_answered = False
            self.world.spawn(self.ticking(), safe=True)
        yield
        yield from self.reset_nodes()
        yield from self.advance({ROOT, *self.spec.nodes})

    def reset_nodes(self) -> Process:
        session = self.store.session
        while session.todo:
            reset = session.todo[0]
            node = self.store.nodes[reset.path]
            if node.status in STEP_ENDED:
                node.deadline = node.busy_until = None
                node.partial = False
                if reset.keep_items:
                    node.status, node.retry_at = StepStatus.RETRYING, self.world.now
                else:
                    node.status, node.run, node.attempt, node.total = StepStatus.WAITING, node.run + 1, 0, 0
            # The row of the reset goes with the node: in the real store the node's run says that it was done.
            session.todo = session.todo[1:]
            yield
