"""Names of dependencies and the order they make. Linear in nodes and dependencies.

Each group is two points, its opening and its end; a step is one. A member waits for its group to open, the group's end for
its members, and a node with a dependency on X for the end of X. What lies on a circle of these can never start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from apps.workflows.document.fields import Problems, shown
from apps.workflows.document.spec import ROOT

FIELDS = ("dependencies", "optional_dependencies")


@dataclass(kw_only=True)
class Draft:
    """A node while it is being read. `waits`: (name as written, index, required) per dependency; `found`: what each one
    turned out to be, (position, index into `waits`)."""

    path: str
    key: str
    parent: str
    where: str
    is_step: bool
    result_keys: tuple[str, ...] = ()
    waits: list[tuple[str, int, bool]] = field(default_factory=list)
    found: list[tuple[int, int]] = field(default_factory=list)

    def at(self, wait: int) -> str:
        """JSON path of a dependency."""
        _, index, required = self.waits[wait]
        return f"{self.where}.{FIELDS[not required]}[{index}]"


def resolve(drafts: Sequence[Draft], problems: Problems) -> None:
    """Fill in `found` of every draft. A name is looked up as in a program, from the inside out: beside the node, beside the
    group around it, …, as a full path; then as a key that only one node has, or a result key that only one step writes."""
    positions = {draft.path: position for position, draft in enumerate(drafts)}
    by_key: dict[str, list[int]] = {}
    by_result: dict[str, list[int]] = {}
    for position, draft in enumerate(drafts):
        by_key.setdefault(draft.key, []).append(position)
        for key in draft.result_keys:
            by_result.setdefault(key, []).append(position)
    for position, draft in enumerate(drafts):
        if not draft.waits:
            continue
        scopes = _scopes(draft.parent)
        seen: dict[int, str] = {}
        for wait, (name, _, _) in enumerate(draft.waits):
            target = None
            for scope in scopes:
                if (target := positions.get(scope + name)) is not None:
                    break
            else:
                candidates = list(dict.fromkeys((*by_key.get(name, ()), *by_result.get(name, ()))))
                if len(candidates) != 1:
                    _unresolved(draft, wait, candidates, drafts, (by_key, by_result, positions), problems)
                    continue
                target = candidates[0]
            plain = target != position and draft.is_step and drafts[target].is_step
            if not plain and _impossible(draft, wait, position, target, drafts, problems):
                continue
            if target in seen:
                problems.add(draft.at(wait), "duplicate", f"`{shown(name)}` is the same as `{shown(seen[target])}`: {drafts[target].path}")
                continue
            seen[target] = name
            draft.found.append((target, wait))


def _scopes(parent: str) -> list[str]:
    """`a.b` → ["a.b.", "a.", ""]"""
    scopes = [ROOT]
    for key in parent.split(".") if parent else ():
        scopes.append(f"{scopes[-1]}{key}.")
    return scopes[::-1]


def _impossible(draft: Draft, wait: int, position: int, target: int, drafts: Sequence[Draft], problems: Problems) -> bool:
    other = drafts[target].path
    if target == position:
        problems.add(draft.at(wait), "self_dependency", f"{draft.path} cannot wait for itself")
    elif draft.path.startswith(other + "."):
        problems.add(draft.at(wait), "cycle", f"{draft.path} is inside {other} and cannot wait for it: {other} ends after its members")
    elif other.startswith(draft.path + "."):
        problems.add(draft.at(wait), "cycle", f"{other} is inside {draft.path}, which cannot wait for it: members start after their group")
    else:
        return False
    return True


def _unresolved(
    draft: Draft, wait: int, candidates: list[int], drafts: Sequence[Draft], known: tuple[Mapping[str, object], ...], problems: Problems
) -> None:
    name = draft.waits[wait][0]
    if candidates:
        paths = [drafts[one].path for one in candidates[:5]]
        more = f" and {len(candidates) - 5} more" if len(candidates) > 5 else ""
        problems.add(draft.at(wait), "ambiguous", f"`{shown(name)}` could be {', '.join(paths)}{more}: write the path")
        return
    near = next((near for names in known if (near := problems.near(name, names))), "")
    problems.add(draft.at(wait), "unknown_dependency", f"there is no task, group or result key `{shown(name)}`{near}")


@dataclass(frozen=True, kw_only=True)
class Order:
    """Points in an order in which each stands after all it waits for. Point of node i: 2i (start) and, of a group, 2i+1 (end)."""

    points: list[int]
    before: list[list[int]]
    """For each point, those it waits for."""


def order(drafts: Sequence[Draft], problems: Problems) -> Order | None:
    """None when there is a circle; every knot of circles is told with one of them."""
    positions = {draft.path: position for position, draft in enumerate(drafts)}
    count = 2 * len(drafts)
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]

    def edge(first: int, second: int) -> None:
        before[second].append(first)
        after[first].append(second)

    for position, draft in enumerate(drafts):
        end = 2 * position + (not draft.is_step)
        if not draft.is_step:
            edge(2 * position, end)
        if draft.parent:
            around = 2 * positions[draft.parent]
            edge(around, 2 * position)
            edge(end, around + 1)
        for target, _ in draft.found:
            edge(2 * target + (not drafts[target].is_step), 2 * position)
    points = _sorted(before, after, lambda point: not (point & 1 and drafts[point >> 1].is_step))
    if points is None:
        return None if _circles(drafts, before, after, problems) else None
    return Order(points=points, before=before)


def _sorted(before: list[list[int]], after: list[list[int]], real: Callable[[int], bool]) -> list[int] | None:
    left = [len(points) for points in before]
    ready = deque(point for point, count in enumerate(left) if not count and real(point))
    done: list[int] = []
    while ready:
        point = ready.popleft()
        done.append(point)
        for following in after[point]:
            left[following] -= 1
            if not left[following]:
                ready.append(following)
    if len(done) == sum(map(real, range(len(before)))):
        return done
    return None


def _circles(drafts: Sequence[Draft], before: list[list[int]], after: list[list[int]], problems: Problems) -> bool:
    knots = [knot for knot in _knots(after) if len(knot) > 1]
    for knot in knots:
        circle = _circle(min(knot), set(knot), before)
        names = list(dict.fromkeys(drafts[point >> 1].path for point in circle))
        told = names if len(names) <= 20 else [*names[:10], f"… {len(names) - 20} more …", *names[-10:]]
        where = _where(circle, drafts)
        problems.add(where, "cycle", f"nothing on this circle can start, each waits for the next: {' → '.join([*told, names[0]])}")
    return bool(knots)


def _where(circle: list[int], drafts: Sequence[Draft]) -> str:
    """JSON path of the last dependency on the circle."""
    found = ""
    for point, waited in zip(circle, [*circle[1:], circle[0]], strict=True):
        draft = drafts[point >> 1]
        for target, wait in draft.found:
            if not point & 1 and waited == 2 * target + (not drafts[target].is_step):
                found = draft.at(wait)
    return found


def _circle(start: int, knot: set[int], before: list[list[int]]) -> list[int]:
    """A shortest circle through `start`: each point waits for the next."""
    came: dict[int, int] = {}
    queue = deque([start])
    while queue:
        point = queue.popleft()
        for waited in before[point]:
            if waited == start:
                path = [point]
                while path[-1] != start:
                    path.append(came[path[-1]])
                return path[::-1]
            if waited in knot and waited not in came:
                came[waited] = point
                queue.append(waited)
    return [start]


def _knots(after: list[list[int]]) -> list[list[int]]:
    """Strongly connected components (Tarjan), without recursion."""
    number = [0] * len(after)
    low = [0] * len(after)
    held = [False] * len(after)
    stack: list[int] = []
    found: list[list[int]] = []
    counter = 0
    for root in range(len(after)):
        if number[root]:
            continue
        work = [(root, iter(after[root]))]
        counter += 1
        number[root] = low[root] = counter
        stack.append(root)
        held[root] = True
        while work:
            point, following = work[-1]
            for other in following:
                if not number[other]:
                    counter += 1
                    number[other] = low[other] = counter
                    stack.append(other)
                    held[other] = True
                    work.append((other, iter(after[other])))
                    break
                if held[other]:
                    low[point] = min(low[point], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[point])
                if low[point] == number[point]:
                    knot = []
                    while True:
                        other = stack.pop()
                        held[other] = False
                        knot.append(other)
                        if other == point:
                            break
                    found.append(knot)
    return found


def steps_before(drafts: Sequence[Draft], order: Order) -> list[int]:
    """For each node, the steps it comes after, as bits (bit i: the step at position i)."""
    bits = [0] * (2 * len(drafts))
    for point in order.points:
        found = 0
        for waited in order.before[point]:
            found |= bits[waited]
            if drafts[waited >> 1].is_step:
                found |= 1 << (waited >> 1)
        bits[point] = found
    return [bits[2 * position] for position in range(len(drafts))]
