"""Group commit: writers that come at the same time share one transaction.

Of thirty requests at once each would take its own turn at the database, and hold it while the other threads have the interpreter. So
whoever finds nobody writing writes at once; those that come meanwhile wait in line, and the first of them then writes for all in
line. Alone nobody waits for anything. As databases do it with their logs (DeWitt et al., "Implementation techniques for main
memory database systems", SIGMOD 1984).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class _Place(Generic[Item, Answer]):
    """In line."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.called = threading.Event()
        """Either it has been dealt with, or it is the first in line."""
        self.answers: list[Answer] = []
        self.error: BaseException | None = None
        self.dealt_with = False


class GroupCommit(Generic[Item, Answer]):
    def __init__(
        self,
        write: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        size: Callable[[Item], int],
        most: int,
        shared: tuple[type[Exception], ...],
    ) -> None:
        """`write` writes several items and answers for each, in order; what it raises must leave nothing written. A group holds
        items up to `most` in size, or one. Errors of the `shared` kinds (the store is away) are everybody's; after any other
        each of the group writes by itself, so that a bad item is its bringer's alone."""
        self._write, self._size, self._most, self._shared = write, size, most, shared
        self._lock = threading.Lock()
        self._line: deque[_Place[Item, Answer]] = deque()
        self._writing = False

    def commit(self, item: Item) -> Answer:
        """The answer for this item, when it is written."""
        mine: _Place[Item, Answer] = _Place(item)
        with self._lock:
            self._line.append(mine)
            must_wait, self._writing = self._writing, True
        if must_wait:
            mine.called.wait()
        if not mine.dealt_with:
            self._lead()
        if mine.error is not None:
            if isinstance(mine.error, self._shared):
                raise type(mine.error)(*mine.error.args) from mine.error  # its own, since each thread adds its own trace
            return self._write([item])[0]
        return mine.answers[0]

    def _lead(self) -> None:
        """Write for those at the head of the line, ourselves the first, and call the next."""
        group = self._take()
        try:
            for place, answer in zip(group, self._write([place.item for place in group]), strict=True):
                place.answers.append(answer)
        except BaseException as error:
            # Not ours alone: those whose items these are raise it, or try by themselves.
            for place in group:
                place.error = error
            if len(group) == 1 or not isinstance(error, Exception):
                raise
        finally:
            with self._lock:
                following = self._line[0] if self._line else None
                self._writing = following is not None
            for place in group:
                place.dealt_with = True
                place.called.set()
            if following is not None:
                following.called.set()

    def _take(self) -> list[_Place[Item, Answer]]:
        with self._lock:
            group = [self._line.popleft()]
            size = self._size(group[0].item)
            while self._line and size + self._size(self._line[0].item) <= self._most:
                group.append(self._line.popleft())
                size += self._size(group[-1].item)
        return group
