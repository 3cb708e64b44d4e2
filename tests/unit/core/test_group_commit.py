"""Writers that come at once write together; alone nobody waits."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.core.group_commit import GroupCommit

PATIENCE = 30.0


class Away(Exception):
    pass


class Desk:
    """Writes numbers, answers with ten times each; the first write waits until it is told to go on."""

    def __init__(self, *, held: bool = False) -> None:
        self.groups: list[list[int]] = []
        self.came, self.go_on = threading.Event(), threading.Event()
        if not held:
            self.go_on.set()
        self.line = GroupCommit(self.write, size=lambda number: 1, most=4, shared=(Away,))

    def write(self, numbers: Sequence[int]) -> list[int]:
        self.groups.append(list(numbers))
        self.came.set()
        assert self.go_on.wait(PATIENCE)
        if any(number < 0 for number in numbers):
            raise (Away if -7 in numbers else ValueError)(f"{min(numbers)}")
        return [10 * number for number in numbers]

    def together(self, first: int, *others: int) -> dict[int, int | Exception]:
        """`first` is being written while the others come, in this order."""
        found: dict[int, int | Exception] = {}

        def bring(number: int) -> None:
            try:
                found[number] = self.line.commit(number)
            except (Away, ValueError) as error:
                found[number] = error

        with ThreadPoolExecutor(1 + len(others)) as people:
            people.submit(bring, first)
            assert self.came.wait(PATIENCE)
            for place, number in enumerate(others, start=1):
                people.submit(bring, number)
                until = threading.Event()
                while len(self.line._line) < place:
                    until.wait(0.001)
            self.go_on.set()
        return found


def test_alone_each_writes_at_once():
    desk = Desk()
    assert [desk.line.commit(number) for number in (1, 2)] == [10, 20]
    assert desk.groups == [[1], [2]]


def test_those_who_come_while_one_writes_are_written_together_in_their_order_and_each_gets_its_own_answer():
    desk = Desk(held=True)
    assert desk.together(1, 2, 3, 4) == {1: 10, 2: 20, 3: 30, 4: 40}
    assert desk.groups == [[1], [2, 3, 4]]


def test_a_group_has_its_bound_and_the_rest_is_the_next_one():
    desk = Desk(held=True)
    assert desk.together(1, *range(2, 9)) == {number: 10 * number for number in range(1, 9)}
    assert desk.groups == [[1], [2, 3, 4, 5], [6, 7, 8]]


def test_a_bad_item_fails_for_its_bringer_alone():
    desk = Desk(held=True)
    found = desk.together(1, 2, -3, 4)
    assert {number: answer for number, answer in found.items() if number != -3} == {1: 10, 2: 20, 4: 40}
    assert str(found[-3]) == "-3"
    assert desk.groups[:2] == [[1], [2, -3, 4]]
    assert sorted(desk.groups[2:]) == [[-3], [2], [4]]


def test_a_store_that_is_away_is_away_for_all_who_wrote_together_and_the_next_try_again():
    desk = Desk(held=True)
    found = desk.together(1, 2, -7)
    assert found[1] == 10
    assert {type(found[2]), type(found[-7])} == {Away}
    assert found[2] is not found[-7]
    assert desk.line.commit(5) == 50


def test_who_is_alone_hears_of_an_error_himself():
    desk = Desk()
    with pytest.raises(ValueError, match="-1"):
        desk.line.commit(-1)
    assert desk.groups == [[-1]]
    assert desk.line.commit(2) == 20


def test_many_at_once_lose_nothing():
    desk = Desk()
    with ThreadPoolExecutor(32) as people:
        assert list(people.map(desk.line.commit, range(1000))) == [10 * number for number in range(1000)]
    assert sorted(number for group in desk.groups for number in group) == list(range(1000))
    assert max(map(len, desk.groups)) <= 4
