"""Of each organization a few at a time, while there are others."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from apps.core import turnstile as room
from apps.core.turnstile import LINE, PLACES, TooManyAtOnce, Turnstile, aside

PATIENCE = 30.0


@pytest.fixture
def rests(monkeypatch):
    found: list[str] = []
    monkeypatch.setattr(room.Lot, "rest", lambda _lot, most: found.append("rest"))
    return found


@pytest.fixture
def hall():
    with ThreadPoolExecutor(200) as people:
        made = Hall(people)
        yield made
        made.open.set()


class Hall:
    """Behind the turnstile; who is in stays until the hall is opened or he is let out."""

    def __init__(self, people: ThreadPoolExecutor) -> None:
        self.turnstile, self.people = Turnstile(), people
        self.open, self._changed = threading.Event(), threading.Condition()
        self.inside: list[str] = []
        self._out: dict[str, threading.Event] = {}

    def bring(self, name: str, *, asks_outside: threading.Event | None = None) -> Future[None]:
        """`a1` is a visitor of organization a. Back when he is inside or in line."""
        out = self._out[name] = threading.Event()
        before = self._at_the_door(name[0])

        def visit() -> None:
            with self.turnstile.place(name[0]):
                if asks_outside is not None:
                    with aside():
                        self._say(name)
                        assert asks_outside.wait(PATIENCE)
                self._say(name)
                while not (self.open.is_set() or out.wait(0.001)):
                    pass

        found = self.people.submit(visit)
        self._until(lambda: found.done() or self._at_the_door(name[0]) != before or name in self.inside)
        return found

    def let_out(self, name: str, visit: Future[None]) -> None:
        self._out[name].set()
        visit.result(PATIENCE)

    def until_inside(self, *names: str) -> None:
        self._until(lambda: set(names) <= set(self.inside))

    def _at_the_door(self, org: str) -> tuple[int, int]:
        side = self.turnstile._sides.get(org)
        return (side.inside, len(side.line)) if side else (0, 0)

    def _say(self, name: str) -> None:
        with self._changed:
            self.inside.append(name)
            self._changed.notify_all()

    def _until(self, fact) -> None:
        with self._changed:
            while not fact():
                self._changed.wait(0.001)


def test_who_is_alone_goes_in_as_he_comes(hall, rests):
    for number in range(LINE + PLACES + 5):
        hall.bring(f"a{number}")
    hall.until_inside(*(f"a{number}" for number in range(LINE + PLACES + 5)))
    hall.open.set()
    assert not rests


def test_beside_another_an_organization_has_a_few_places_and_the_other_one_its_own(hall, rests):
    hall.let_out("b0", hall.bring("b0"))
    visits = {name: hall.bring(name) for name in ("a1", "a2", "a3", "a4")}
    hall.until_inside("a1", "a2")
    hall.bring("b1")
    hall.until_inside("b1")
    assert "a3" not in hall.inside
    hall.let_out("a1", visits["a1"])
    hall.until_inside("a3")
    assert "a4" not in hall.inside
    assert rests == ["rest"]  # a place with a line before it is given on after a rest
    hall.let_out("a2", visits["a2"])
    hall.let_out("a3", visits["a3"])
    assert rests == ["rest", "rest"]


def test_who_gets_no_more_done_than_others_does_not_rest(hall, rests):
    for number in range(3):
        hall.let_out(f"b{number}", hall.bring(f"b{number}"))
    visits = {name: hall.bring(name) for name in ("a1", "a2", "a3", "a4", "a5")}
    for done, following in (("a1", "a3"), ("a2", "a4")):
        hall.let_out(done, visits[done])
        hall.until_inside(following)
    assert not rests
    hall.let_out("a3", visits["a3"])  # as many as b, and later
    assert rests == ["rest"]


def test_among_crowds_nobody_rests(hall, rests):
    visits = {name: hall.bring(name) for name in ("b1", "b2", "b3", "b4", "a1", "a2", "a3", "a4")}
    hall.until_inside("a1", "b1", "b2", "b3", "b4")  # they were alone when they came
    hall.bring("b5")
    hall.let_out("a1", visits["a1"])
    hall.until_inside("a3")
    assert not rests
    hall.open.set()


def test_a_line_is_bounded_and_nobody_else_is_refused_for_it(hall, rests):
    hall.let_out("b0", hall.bring("b0"))
    for number in range(PLACES + LINE):
        hall.bring(f"a{number}")
    with pytest.raises(TooManyAtOnce) as refused:
        hall.bring("a999").result(PATIENCE)
    assert refused.value.status == 429
    assert refused.value.retry_after_seconds == 1
    hall.bring("b1")
    hall.until_inside("b1")


def test_when_the_company_has_gone_all_who_wait_go_in(hall, rests, monkeypatch):
    hall.let_out("b0", hall.bring("b0"))
    visits = {name: hall.bring(name) for name in ("a1", "a2", "a3", "a4", "a5")}
    hall.until_inside("a1", "a2")
    monkeypatch.setattr(room, "COMPANY_SECONDS", -1.0)
    hall.let_out("a1", visits["a1"])
    hall.until_inside("a3", "a4", "a5")


def test_who_waits_for_somebody_outside_holds_no_place_and_comes_back_before_the_line(hall, rests):
    hall.let_out("b0", hall.bring("b0"))
    answered = threading.Event()
    hall.bring("a1", asks_outside=answered)
    others = {name: hall.bring(name) for name in ("a2", "a3")}
    hall.until_inside("a1", "a2", "a3")
    hall.bring("a4")
    answered.set()
    hall._until(lambda: hall._at_the_door("a") == (2, 2))
    hall.let_out("a2", others["a2"])
    hall._until(lambda: hall.inside.count("a1") == 2)
    assert "a4" not in hall.inside


def test_one_that_fails_gives_its_place_back():
    turnstile = Turnstile()
    for _ in range(PLACES + 1):
        with pytest.raises(RuntimeError), turnstile.place("a"):
            raise RuntimeError
    assert not turnstile._sides


def test_only_some_organizations_are_remembered():
    turnstile = Turnstile()
    for number in range(room.ORGS_SEEN + 10):
        with turnstile.place(f"org-{number}"):
            pass
    assert len(turnstile._paces) == room.ORGS_SEEN
    assert f"org-{room.ORGS_SEEN + 9}" in turnstile._paces
