"""A state machine is a table: from each state, the states it may move to. No row means terminal."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

State = TypeVar("State", bound=StrEnum)


class StateTable(Generic[State]):
    def __init__(self, moves: Mapping[State, frozenset[State]]) -> None:
        self._moves = dict(moves)

    def allows(self, start: State, end: State) -> bool:
        return end in self._moves.get(start, frozenset())

    def is_terminal(self, state: State) -> bool:
        return not self._moves.get(state)

    def sources(self, end: State) -> frozenset[State]:
        """Every state that may move to `end`."""
        return frozenset(start for start, ends in self._moves.items() if end in ends)
