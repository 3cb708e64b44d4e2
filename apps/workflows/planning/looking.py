"""Reading just enough of a session to decide what comes next around a few nodes.

The cost of a look follows what it touches, never the size of the session: a join of 1,000 is looked at by a few of its
dependencies until those have ended, and a group is counted only when no member of it is open.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from apps.workflows.document.spec import ROOT, SessionSpec
from apps.workflows.planning.moves import Members, NodeState, SessionState, Snapshot
from apps.workflows.states import SESSION_ENDED, STEP_ENDED, STEP_FAILED, StepStatus

FIRST = 32
"""dependencies of a waiting node that are read at once; each further reading takes four times as many"""


class Reader(Protocol):
    """What `look` asks the store. Each answer is the truth at the time of the call; they need not be of one instant."""

    def nodes(self, paths: Collection[str]) -> Mapping[str, NodeState]: ...

    def statuses(self, paths: Collection[str]) -> Mapping[str, StepStatus]:
        """The same, where the status is all that is needed."""

    def open_member(self, group: str) -> bool:
        """Is any direct member of the group not ended? (One indexed row.)"""

    def members(self, group: str) -> Members: ...

    def open_node(self) -> bool:
        """Is any node of the session not ended?"""


def look(spec: SessionSpec, reader: Reader, session: SessionState, touched: Collection[str]) -> Snapshot:
    """The snapshot that `next_moves` needs for the touched nodes, and no more. `session` was read before this call."""
    paths = {path for path in touched if path != ROOT}
    around = {parent for path in paths if (parent := spec.nodes[path].parent) != ROOT}
    nodes = dict(reader.nodes(paths | around))
    if session.status in SESSION_ENDED:
        quiet = not session.published and not reader.open_node()
        return Snapshot(session=session, nodes=nodes, touched=touched, quiet=quiet)
    _dependencies(spec, reader, nodes, paths)
    return Snapshot(session=session, nodes=nodes, touched=touched, members=_members(spec, reader, nodes, touched))


def _dependencies(spec: SessionSpec, reader: Reader, nodes: dict[str, NodeState], paths: Collection[str]) -> None:
    """Add the dependencies of waiting nodes, as far as they may decide."""
    # The last ones first: they are likely the last to end, and one that is open settles it.
    left = {
        path: [*spec.nodes[path].needs, *spec.nodes[path].wants][::-1]
        for path in paths
        if path in nodes and nodes[path].status is StepStatus.WAITING and _opened(spec, nodes, path)
    }
    size = FIRST
    while left:
        wanted = {one for names in left.values() for one in names[:size]}
        if absent := wanted - nodes.keys():
            nodes.update((path, NodeState(status=status)) for path, status in reader.statuses(absent).items())
        left = {
            path: names[size:]
            for path, names in left.items()
            if len(names) > size and all(one in nodes and nodes[one].status in STEP_ENDED for one in names[:size])
        }
        size *= 4


def _opened(spec: SessionSpec, nodes: Mapping[str, NodeState], path: str) -> bool:
    parent = spec.nodes[path].parent
    return parent == ROOT or (parent in nodes and nodes[parent].status is StepStatus.RUNNING)


def _members(spec: SessionSpec, reader: Reader, nodes: Mapping[str, NodeState], touched: Collection[str]) -> dict[str, Members]:
    groups = [path for path in touched if path == ROOT or (spec.nodes[path].kind == "group" and _runs(nodes, path))]
    if not groups:
        return {}
    # A member seen open, or one whose failure ends the group, saves the question.
    settled = {
        spec.nodes[path].parent
        for path, state in nodes.items()
        if state.status not in STEP_ENDED or (state.status in STEP_FAILED and spec.nodes[path].on_failure == "fail")
    }
    return {group: reader.members(group) for group in groups if group not in settled and not reader.open_member(group)}


def _runs(nodes: Mapping[str, NodeState], path: str) -> bool:
    return path in nodes and nodes[path].status is StepStatus.RUNNING
