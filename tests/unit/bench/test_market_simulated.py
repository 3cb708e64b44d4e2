"""The simulated market of the bench, small: the production code against the oracle."""

from __future__ import annotations

from bench import market


def test_the_choice_is_the_oracles_and_never_an_agent_that_may_not_have_it():
    found = market.run(tasks=120, agents=20, seed=3)
    assert found["agreement"] >= 0.95
    assert found["ineligible"] == 0
    assert found["without_choice"] == 0
    assert found["liars"] == 4
