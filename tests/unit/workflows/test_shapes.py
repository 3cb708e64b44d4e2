"""Real shapes of workflows: each step starts once, after all its parents, and a step's cost does not grow with the session."""

from __future__ import annotations

import graphlib
import random
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from apps.workflows.document.dry_run import expanded_plan
from apps.workflows.document.reading import load, parse
from apps.workflows.document.spec import ROOT, SessionSpec
from apps.workflows.planning import plan
from apps.workflows.planning.plan import Counts, EndSession, Finish, Members, NodeState, Open, SessionState, Start
from apps.workflows.states import STEP_ENDED, SessionStatus, StepStatus
from tests.unit.workflows.world import START


class Rows:
    """A store that counts what is read of it."""

    def __init__(self, spec: SessionSpec) -> None:
        self.spec = spec
        self.states = dict.fromkeys(spec.nodes, NodeState(status=StepStatus.WAITING))
        self.open = {group: len(spec.members(group)) for group in (ROOT, *(p for p, n in spec.nodes.items() if n.kind == "group"))}
        self.read = self.most = self.counted = 0

    def nodes(self, paths: Collection[str]) -> Mapping[str, NodeState]:
        self.read += len(paths)
        return {path: self.states[path] for path in paths}

    def statuses(self, paths: Collection[str]) -> Mapping[str, StepStatus]:
        return {path: state.status for path, state in self.nodes(paths).items()}

    def open_member(self, group: str) -> bool:
        self.read += 1
        return self.open[group] > 0

    def members(self, group: str) -> Members:
        self.counted += len(self.spec.members(group))
        return Members(statuses=Counter(self.states[path].status for path in self.spec.members(group)), fatal=0)

    def open_node(self) -> bool:
        return any(self.open.values())

    def set(self, path: str, status: StepStatus, **values: Any) -> None:
        self.states[path] = NodeState(status=status, **values)
        if status in STEP_ENDED:
            self.open[self.spec.nodes[path].parent] -= 1


def drive(spec: SessionSpec, *, seed: int = 0) -> tuple[Rows, list[str]]:
    """Run a session whose steps succeed at once, in random order; returns the order in which they started."""
    rows, started, rng = Rows(spec), [], random.Random(seed)
    session = SessionState(key="s", status=SessionStatus.RUNNING)
    queue: deque[set[str]] = deque([{ROOT, *spec.members(ROOT)}])
    running: list[str] = []
    while queue or running:
        if queue:
            touched = queue.popleft()
            for move in plan.next_moves(spec, plan.look(spec, rows, session, touched), now=START):
                if isinstance(move, EndSession):
                    assert move.status is SessionStatus.COMPLETED
                    session = SessionState(key="s", status=move.status, published=True)
                    continue
                if isinstance(move, Start):
                    started.append(move.path)
                    running.append(move.path)
                    rows.set(move.path, StepStatus.RUNNING, attempt=1, counts=Counts(total=1, running=1))
                elif isinstance(move, Open):
                    rows.set(move.path, StepStatus.RUNNING)
                elif isinstance(move, Finish):
                    rows.set(move.path, move.status)
                queue.append(plan.touches(spec, move))
        else:
            path = running.pop(rng.randrange(len(running)))
            rows.set(path, StepStatus.RUNNING, attempt=1, counts=Counts(total=1, completed=1))
            queue.append({path})
    assert session.status is SessionStatus.COMPLETED
    return rows, started


def chain(length: int) -> list[dict[str, Any]]:
    return [{"key": f"t{n}", "dependencies": [f"t{n - 1}"] if n else []} for n in range(length)]


def fan(width: int) -> list[dict[str, Any]]:
    inner = [{"key": f"t{n}", "dependencies": ["first"]} for n in range(width)]
    return [{"key": "first"}, *inner, {"key": "last", "dependencies": [task["key"] for task in inner]}]


def diamonds(count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"key": "d0"}]
    for n in range(count):
        found += [{"key": f"l{n}", "dependencies": [f"d{n}"]}, {"key": f"r{n}", "dependencies": [f"d{n}"]}]
        found.append({"key": f"d{n + 1}", "dependencies": [f"l{n}", f"r{n}"]})
    return found


def web(tasks: int, edges: int) -> list[dict[str, Any]]:
    rng = random.Random(7)
    waits: list[set[int]] = [set() for _ in range(tasks)]
    while edges:
        n = rng.randrange(1, tasks)
        waited = rng.randrange(max(0, n - 100), n)
        edges -= waited not in waits[n]
        waits[n].add(waited)
    return [{"key": f"t{n}", "dependencies": [f"t{waited}" for waited in sorted(found)]} for n, found in enumerate(waits)]


SHAPES = {
    "chain": chain(1000),
    "fan": fan(1000),
    "diamonds": diamonds(300),
    "web": web(2000, 10_000),
    "apart": [{"key": f"t{n}"} for n in range(1000)],
}


@pytest.mark.parametrize("name", SHAPES)
def test_each_step_starts_once_and_after_all_its_parents(name: str):
    spec = parse({"tasks": SHAPES[name]}, processors=())
    rows, started = drive(spec)
    assert sorted(started) == sorted(spec.steps)
    place = {path: index for index, path in enumerate(started)}
    assert all(place[needed] < place[path] for path in spec.steps for needed in spec.nodes[path].needs)
    # Per step: itself and its group, its dependents and theirs, a few times; never the session.
    edges = sum(len(node.needs) for node in spec.nodes.values())
    assert rows.read < 12 * len(spec.steps) + 12 * edges + 34 * max(len(spec.steps), edges)
    assert rows.counted <= 2 * len(spec.nodes)


def test_the_cost_of_a_step_is_the_same_in_a_session_ten_times_the_size():
    def per_step(width: int) -> float:
        rows, started = drive(parse({"tasks": fan(width)}, processors=()))
        return rows.read / len(started)

    assert per_step(2000) < 1.2 * per_step(200)


def test_eight_levels_of_groups_run_from_the_outside_in():
    group: dict[str, Any] = {"key": "g8", "tasks": [{"key": "deep"}]}
    for level in range(7, 0, -1):
        group = {"key": f"g{level}", "tasks": [{"key": f"t{level}"}], "task_groups": [group]}
    spec = parse({"task_groups": [group, {"key": "after", "dependencies": ["g1"], "tasks": [{"key": "end"}]}]}, processors=())
    _, started = drive(spec)
    assert started[-1] == "after.end"
    assert len(started) == 9
    assert "g1.g2.g3.g4.g5.g6.g7.g8.deep" in started


def test_two_thousand_tasks_with_ten_thousand_dependencies_are_read_quickly():
    document = {"tasks": SHAPES["web"]}
    assert sum(len(task["dependencies"]) for task in SHAPES["web"]) >= 10_000

    def seconds(read: Any) -> float:
        begun = time.process_time()
        read()
        return time.process_time() - begun

    spec = parse(document, processors=())
    # Of processor time, the best of a few: other tests may be running.
    assert min(seconds(lambda: parse(document, processors=())) for _ in range(4)) < 0.3
    assert min(seconds(lambda: load(spec.document)) for _ in range(4)) < 0.25


def test_reading_grows_with_the_document_and_no_faster():
    def seconds(tasks: int) -> float:
        document = {"tasks": web(tasks, tasks * 5)}
        times = []
        for _ in range(3):
            begun = time.process_time()
            parse(document, processors=())
            times.append(time.process_time() - begun)
        return min(times)

    assert seconds(4000) < 10 * seconds(800)


@pytest.mark.parametrize("name", SHAPES)
def test_the_order_is_one_in_which_nothing_comes_before_what_it_waits_for(name: str):
    spec = parse({"tasks": SHAPES[name]}, processors=())
    place = {path: index for index, path in enumerate(spec.order)}
    assert sorted(place) == sorted(spec.nodes)
    assert all(place[one] < place[path] for path, node in spec.nodes.items() for one in (*node.needs, *node.wants))
    assert list(graphlib.TopologicalSorter({path: node.needs for path, node in spec.nodes.items()}).static_order())


def test_a_dry_run_tells_levels_and_the_longest_chain():
    found = expanded_plan(parse({"tasks": diamonds(3)}, processors=()))
    assert found["critical_path"]["length"] == 7
    assert [len(level) for level in found["levels"]] == [1, 2, 1, 2, 1, 2, 1]
    assert found["totals"] == {
        "groups": 1, "steps": 10, "dependencies": 12, "items": 10, "steps_unknown": 0, "by_executor": {"agent": 10}, "widest": 2,
    }  # fmt: skip


def test_a_dry_run_tells_what_each_step_becomes():
    document = {
        "tasks": [
            {"key": "files", "name": "List files"},
            {"key": "m", "name": "Check", "rows": ["A", "B"], "cols": [1, 2, 3],
             "expansion_config": {"type": "matrix", "array_mapping": {"row": "rows", "col": "cols"}}},
            {"key": "each", "dependencies": ["files"], "expansion_config": {"type": "array", "array_mapping": {"file": "files"}}},
            {"key": "many", "expansion_config": {"type": "array", "array_mapping": {"n": "numbers"}}},
        ],
        "context": {"numbers": list(range(5000))},
    }  # fmt: skip
    steps = {step["path"]: step for step in expanded_plan(parse(document, processors=()))["steps"]}
    assert steps["main.m"]["names"] == ["Check A1", "Check A2", "Check A3", "Check B1", "Check B2", "Check B3"]
    assert (steps["main.each"]["items"], steps["main.each"]["known_after"]) == (None, ["main.files"])
    assert (steps["main.many"]["items"], len(steps["main.many"]["names"])) == (5000, 10)
