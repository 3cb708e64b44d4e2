from jobplatform.embedded.child import Death, Patience, how_it_ended

PATIENCE = Patience(deaths=5, seconds=30)


def deaths(*moments: float, healthy: bool = True) -> list[Death]:
    return [Death(at=at, was_healthy=healthy) for at in moments]


def test_a_child_that_dies_often_in_a_short_time_is_given_up():
    assert not PATIENCE.ended(deaths(0, 5, 10, 15))
    assert PATIENCE.ended(deaths(0, 5, 10, 15, 20))


def test_a_child_killed_now_and_then_is_brought_back_for_ever():
    assert not PATIENCE.ended(deaths(*range(0, 1000, 8)))


def test_a_child_that_never_became_healthy_is_given_up_however_long_each_try_took():
    assert PATIENCE.ended(deaths(0, 60, 120, 180, 240, healthy=False))
    assert not PATIENCE.ended([*deaths(0, 60, 120, healthy=False), *deaths(180), *deaths(240, healthy=False)])


def test_the_first_death_is_answered_at_once_and_each_further_one_later():
    waits = [PATIENCE.wait_seconds(deaths(*range(count))) for count in (1, 2, 3, 4)]
    assert waits == [0.0, 0.25, 0.5, 1.0]
    assert Patience(deaths=50).wait_seconds(deaths(*range(20))) == 5.0


def test_old_deaths_are_forgotten():
    assert PATIENCE.wait_seconds(deaths(0, 1, 2, 500)) == 0.0


def test_the_end_of_a_child_is_told_in_words():
    assert how_it_ended(3) == "exit status 3"
    assert how_it_ended(-9) == "killed by SIGKILL"
