"""Who wins an auction, and what it is paid: the pure rules."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.agents.market.bids import BadBid, Bid, BidBook, read_bid
from apps.agents.market.ranking import NEWCOMER, Quota, Standing, award, chance_of, rank, standing_of
from apps.agents.market.terms import Terms
from apps.agents.reputation import judge
from apps.orgs.config_store import OrgConfig
from tests.factories import NOON

KNOWN = Standing(reputation=0.95, evidence=50, calibration=0.9)


def bid(agent: str, price: float, eta_s: float = 0.0, confidence: float = 1.0, load: float = 0.0) -> Bid:
    return Bid(agent=agent, price=price, eta_s=eta_s, confidence=confidence, load=load, after_ms=1.0)


def ranked(bids, terms=None, standings=None, loads=None, key="acme/t1"):
    return rank(bids, terms or Terms(), standings or {each.agent: KNOWN for each in bids}, loads or {}, key=key)


def names(ranking) -> list[str]:
    return [each.bid.agent for each in ranking.ranked]


def given_to(ranking, terms=None, *, full=(), busy=(), quota=None):
    return award(
        ranking, terms or Terms(), barred=lambda name: "full" if name in full else "", busy=lambda name: name in busy,
        quota=quota or Quota(),
    )  # fmt: skip


PRICES = st.floats(0, 1e6, allow_nan=False).map(lambda value: round(value, 4))
BIDS = st.lists(
    st.builds(
        lambda price, eta, confidence, load: (price, eta, confidence, load), PRICES, st.floats(0, 1e4), st.floats(0, 1), st.floats(0, 1)
    ),
    min_size=1,
    max_size=12,
).map(lambda rows: [bid(f"a{index}", *row) for index, row in enumerate(rows)])
STANDINGS = st.builds(
    Standing, reputation=st.floats(0, 1), evidence=st.floats(0, 100), calibration=st.floats(0, 1), eta_ratio=st.floats(0.1, 10),
    price_ratio=st.floats(0.5, 3),
)  # fmt: skip
TERMS = st.builds(
    Terms,
    rule=st.sampled_from(["first_price", "second_price"]),
    reserve_price=st.none() | PRICES,
) | st.builds(
    lambda weights: Terms(rule="weighted", weights=weights),
    st.dictionaries(st.sampled_from(["price", "eta", "confidence", "load", "reputation", "calibration"]), st.floats(0, 100), min_size=1),
)


@given(bids=BIDS, terms=TERMS, seed=st.integers(0, 1000), data=st.data())
def test_the_ranking_does_not_depend_on_the_order_in_which_bids_come(bids, terms, seed, data):
    standings = {each.agent: data.draw(STANDINGS) for each in bids}
    shuffled = random.Random(seed).sample(bids, len(bids))  # the seed is drawn: failures repeat
    assert ranked(bids, terms, standings) == ranked(shuffled, terms, standings)


@given(bids=BIDS, terms=TERMS, data=st.data())
def test_scores_rise_down_the_ranking_and_every_bid_is_ranked_or_refused(bids, terms, data):
    standings = {each.agent: data.draw(STANDINGS) for each in bids}
    found = ranked(bids, terms, standings)
    scores = [each.score for each in found.ranked]
    assert scores == sorted(scores)
    assert {*names(found), *found.refused} == {each.agent for each in bids}
    for each in found.ranked:
        assert sum(each.parts.values()) == pytest.approx(each.score, abs=1e-6)


@given(bids=BIDS, terms=TERMS, data=st.data())
def test_nobody_is_paid_less_than_it_asked_or_more_than_the_reserve(bids, terms, data):
    standings = {each.agent: data.draw(STANDINGS) for each in bids}
    for each in ranked(bids, terms, standings).ranked:
        assert each.pays >= each.bid.price - 1e-6
        if terms.reserve_price is not None:
            assert each.pays <= terms.reserve_price + 1e-6


@given(bids=BIDS, data=st.data())
def test_a_second_price_winner_would_still_have_won_with_what_it_is_paid(bids, data):
    """What makes asking one's true price the best policy."""
    standings = {each.agent: data.draw(STANDINGS) for each in bids}
    terms = Terms(rule="second_price", reserve_price=1e6)
    first, *others = ranked(bids, terms, standings).ranked
    if others:
        assert first.pays - first.bid.price <= others[0].score - first.score + 1e-6


@given(bids=BIDS, terms=TERMS, worse=st.floats(1, 1e5), data=st.data())
def test_asking_more_never_helps(bids, terms, worse, data):
    standings = {each.agent: data.draw(STANDINGS) for each in bids}
    if terms.reserve_price is None:
        standings = dict.fromkeys(standings, NEWCOMER)  # else the price of the established moves what a failure costs
    before = names(ranked(bids, terms, standings))
    mine = bids[0]
    dearer = [bid(mine.agent, mine.price + worse, mine.eta_s, mine.confidence, mine.load), *bids[1:]]
    after = names(ranked(dearer, terms, standings))
    if mine.agent in before and mine.agent in after:
        assert after.index(mine.agent) >= before.index(mine.agent)


@given(bids=BIDS.filter(lambda bids: len(bids) > 2), data=st.data())
def test_a_bid_that_nobody_would_choose_does_not_turn_the_order_of_two_others(bids, data):
    standings = {each.agent: data.draw(STANDINGS) for each in bids}
    terms = Terms(rule="weighted", weights={"price": 1, "eta": 0.1, "confidence": 10})
    whole, part = names(ranked(bids, terms, standings)), names(ranked(bids[:-1], terms, standings))
    assert [name for name in whole if name in part] == part


def test_of_equal_bids_the_less_loaded_wins_and_then_the_lot_of_the_task():
    equals = [bid(name, 5) for name in ("ada", "bo", "cy")]
    assert names(ranked(equals, loads={"ada": 0.5, "bo": 0.1, "cy": 0.5}))[0] == "bo"
    firsts = [names(ranked(equals, key=f"acme/t{number}"))[0] for number in range(300)]
    assert all(70 <= firsts.count(name) <= 130 for name in ("ada", "bo", "cy")), "no name is favoured for what it is"
    assert firsts == [names(ranked(equals[::-1], key=f"acme/t{number}"))[0] for number in range(300)], "and the lot is always the same"


def test_among_equals_in_reputation_the_second_price_winner_is_paid_the_second_price():
    found = ranked([bid("ada", 10), bid("bo", 14), bid("cy", 20)], Terms(rule="second_price"))
    assert [(each.bid.agent, each.pays) for each in found.ranked] == [("ada", 14), ("bo", 20), ("cy", 20)]


def test_the_only_bidder_of_a_second_price_auction_is_paid_the_reserve():
    [only] = ranked([bid("ada", 10)], Terms(rule="second_price", reserve_price=30)).ranked
    assert only.pays == 30
    [only] = ranked([bid("ada", 10)], Terms(rule="second_price")).ranked
    assert only.pays == 10


def test_weights_say_what_a_second_and_a_risk_are_worth():
    bids = [bid("slow", 5, eta_s=100), bid("fast", 9, eta_s=10)]
    assert names(ranked(bids, Terms(rule="weighted", weights={"price": 1, "eta": 0.01})))[0] == "slow"
    assert names(ranked(bids, Terms(rule="weighted", weights={"price": 1, "eta": 0.1})))[0] == "fast"


def test_confidence_beyond_what_an_agent_has_shown_does_not_count():
    standings = {"boaster": Standing(reputation=0.6, evidence=50), "modest": Standing(reputation=0.95, evidence=50)}
    bids = [bid("boaster", 5, confidence=1.0), bid("modest", 5, confidence=0.9)]
    found = ranked(bids, Terms(rule="weighted", weights={"price": 1, "confidence": 10}), standings)
    assert names(found) == ["modest", "boaster"]
    assert found.ranked[1].parts["confidence"] == pytest.approx(4.0)


def test_promises_that_held_count_for_what_the_terms_say_they_are_worth():
    standings = {"true": Standing(evidence=50, calibration=0.9), "loose": Standing(evidence=50, calibration=0.2)}
    bids = [bid("true", 6), bid("loose", 5)]
    found = ranked(bids, Terms(rule="weighted", weights={"price": 1, "calibration": 2}), standings)
    assert names(found) == ["true", "loose"]
    assert [each.parts["calibration"] for each in found.ranked] == [pytest.approx(0.2), pytest.approx(1.6)]
    assert names(ranked(bids, Terms(rule="weighted", weights={"price": 1, "calibration": 1}), standings)) == ["loose", "true"]


@pytest.mark.parametrize("broken", [{"promised_eta_s": 5.0}, {"price": 20.0}, {"promised_confidence": 0.2}])
def test_a_broken_promise_of_any_kind_costs_calibration(broken):
    kept = {"promised_price": 10.0, "price": 10.0, "promised_eta_s": 10.0, "promised_confidence": 1.0}
    rows = [SimpleNamespace(outcome="completed", excused=False, ended_at=NOON, seconds=10.0, **{**kept, **fact}) for fact in ({}, broken)]
    honest, other = (standing_of(judge([row] * 20, OrgConfig(), now=NOON)) for row in rows)
    assert honest.calibration > 0.9 and other.calibration < honest.calibration - 0.1


def record(promised: float, kept: float, promises: int) -> Standing:
    """Of an agent that promised this confidence so often, and kept so many of its promises."""
    rows = [
        SimpleNamespace(
            outcome="completed" if number < promises * kept else "failed", excused=False, ended_at=NOON, seconds=1.0, promised_price=None,
            promised_eta_s=None, promised_confidence=promised, price=None,
        )
        for number in range(promises)
    ]  # fmt: skip
    return standing_of(judge(rows, OrgConfig(), now=NOON))


def test_the_claims_of_one_whose_claims_came_true_count_for_more_than_its_record():
    candid = record(0.9, 0.9, 100)
    assert candid.candour > 0.8
    assert candid.reputation < chance_of(0.93, candid) < 0.93  # this task is an easy one
    assert 0.6 < chance_of(0.6, candid) < 0.75  # and this one is not


def test_a_boaster_gains_nothing_by_boasting_and_a_newcomer_next_to_nothing():
    boaster = record(0.99, 0.7, 100)
    assert boaster.candour < 0.001 and chance_of(0.99, boaster) == pytest.approx(boaster.reputation, abs=0.001)
    assert chance_of(0.2, boaster) == pytest.approx(0.2, abs=0.01)  # what speaks against itself is believed
    assert chance_of(1.0, Standing()) == 0.5
    new = record(1.0, 1.0, 2)
    assert chance_of(1.0, new) - new.reputation < 0.05


@given(st.floats(0, 1), st.integers(1, 300), st.floats(0, 1), st.floats(0, 1))
def test_nobody_is_believed_beyond_what_its_record_makes_credible(kept, promises, promised, says):
    standing = record(promised, kept, promises)
    assert 0 <= chance_of(says, standing) <= max(standing.reputation, standing.ceiling) <= 1


def test_habits_of_being_late_and_of_charging_more_are_priced_in():
    standings = {"liar": Standing(reputation=0.95, evidence=50, eta_ratio=3, price_ratio=1.5), "honest": KNOWN}
    bids = [bid("liar", 10, eta_s=10), bid("honest", 12, eta_s=20)]
    assert names(ranked(bids, Terms(), standings))[0] == "honest"
    assert names(ranked(bids, Terms(rule="weighted", weights={"eta": 1}), standings))[0] == "honest"


@pytest.mark.parametrize(
    ("terms", "offer", "why"),
    [
        (Terms(reserve_price=9), bid("ada", 9.01), "over the reserve price"),
        (Terms(max_eta_s=60), bid("ada", 1, eta_s=61), "promises to end too late"),
        (Terms(min_confidence=0.8), bid("ada", 1, confidence=0.7), "not confident enough"),
        (Terms(min_reputation=0.99), bid("ada", 1), "not enough reputation"),
    ],
)
def test_a_bid_outside_the_terms_is_refused_and_says_why(terms, offer, why):
    found = ranked([offer, bid("bo", 1)], Terms(reserve_price=terms.reserve_price) if terms.reserve_price else terms)
    assert found.refused.get("ada") == why


def test_fewer_bids_than_wanted_choose_nobody():
    found = ranked([bid("ada", 1), bid("bo", 2)])
    assert given_to(found, Terms(min_bids=3)).winner is None
    assert given_to(found, Terms(min_bids=2)).winner.bid.agent == "ada"
    assert given_to(ranked([]), Terms(min_bids=0)).winner is None


def test_who_has_no_room_is_passed_over_for_the_next():
    result = given_to(ranked([bid("ada", 1), bid("bo", 2)]), full={"ada"})
    assert (result.winner.bid.agent, result.place, result.passed_over) == ("bo", 1, {"ada": "full"})


# S23: newcomers by the hundred


def test_a_hundred_newcomers_that_underbid_do_not_take_the_market():
    sybils = [bid(f"sybil{number:02}", 6.0, confidence=1.0) for number in range(100)]
    settled = [bid(f"old{number}", 10.0 + number) for number in range(10)]
    standings = {each.agent: KNOWN for each in settled}
    found = ranked([*sybils, *settled], Terms(), standings)
    assert names(found)[0] == "old0", "half a chance to fail costs more than four units saved"
    assert found.loss == 14.5, "and what a failure costs is what the established ask, however many newcomers come"


def test_newcomers_that_bid_nothing_at_all_get_a_fifth_of_the_tasks_together_and_one_each_at_a_time():
    sybils = [bid(f"sybil{number:02}", 0.0) for number in range(100)]
    settled = [bid(f"old{number}", 100.0) for number in range(10)]
    standings = {each.agent: Standing(reputation=0.55, evidence=50) for each in settled}
    quota, held, won = Quota(), set(), {"sybil": 0, "old": 0}
    for number in range(200):
        found = ranked([*sybils, *settled], Terms(), standings, key=f"acme/t{number}")
        winner = given_to(found, busy=held, quota=quota).winner.bid.agent
        won["sybil" if winner.startswith("sybil") else "old"] += 1
        if winner.startswith("sybil"):
            assert winner not in held
        held.add(winner)
    assert won["sybil"] <= 0.2 * 200
    assert won["old"] >= 160


def test_where_nobody_is_established_newcomers_may_win_everything():
    found = ranked([bid("ada", 1), bid("bo", 2)], standings={"x": KNOWN})
    assert given_to(found, busy={"ada"}, quota=Quota(held=10, on_probation=10)).winner.bid.agent == "ada"


def test_an_agent_that_wins_cheaply_and_fails_prices_itself_out():
    failing, steady = Standing(reputation=0.3, evidence=20), Standing(reputation=0.95, evidence=20)
    found = ranked([bid("cheap", 5), bid("steady", 10)], Terms(reserve_price=20), {"cheap": failing, "steady": steady})
    assert names(found) == ["steady", "cheap"]


# S24: what is said over the wire


def book(*called: str) -> BidBook:
    return BidBook(auction_id="x1", task_id="t1", called=called or ("ada", "bo"))


def said(**fields) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "malformed"), (b"\xff", "malformed"), (b"7", "malformed"), (b"{}", "malformed"), (b'{"price": NaN}', "malformed"),
        (b'{"price": Infinity}', "malformed"), (b'{"price": 1e400}', "malformed"), (said(price=-1), "malformed"),
        (said(price=-0.01), "malformed"), (said(price="1"), "malformed"), (said(price=True), "malformed"), (said(price=None), "malformed"),
        (said(price=1, eta_s=-1), "malformed"), (said(price=1, confidence=1.01), "malformed"), (said(price=1, load=[]), "malformed"),
        (said(price=1, task_id="t2"), "bid for another task"), (said(price=1, auction_id="x2"), "bid for another task"),
        (said(price=1, subject_id="bo"), "names another bidder"), (b'{"price":1' + b" " * 5000 + b"}", "malformed"),
        (said(price=10**400), "malformed"),
    ],
)  # fmt: skip
def test_what_is_no_bid_is_kept_with_its_reason_and_counts_as_an_answer(data, why):
    found = book()
    ignored = found.hear("ada", data, 5.0)
    assert ignored.why == why
    assert not found.bids
    assert found.silent == {"bo"}


@given(data=st.binary(max_size=60) | st.dictionaries(st.sampled_from(["price", "eta_s", "pass"]), st.none() | st.floats() | st.text()).map(
    lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_bytes_break_the_book(data):
    found = book()
    found.hear("ada", data, 1.0)
    for each in found.bids.values():
        assert 0 <= each.price <= 1e12


def test_the_first_bid_stands():
    found = book()
    found.hear("ada", said(price=5), 1.0)
    assert found.hear("ada", said(price=5), 2.0).why == "duplicate: the first bid stands"
    assert found.hear("ada", said(price=1), 3.0).why == "changed: the first bid stands"
    assert found.bids["ada"].price == 5


def test_a_bid_after_the_close_or_from_somebody_not_called_changes_nothing():
    found = book()
    assert found.hear("bo", said(price=1), 250.0, late=True).why == "late: the auction was closed"
    assert found.hear("eve", said(price=1), 1.0).why == "names another bidder"
    assert not found.bids


def test_an_auction_is_complete_when_everybody_answered_passed_or_is_not_there():
    found = book("ada", "bo", "cy")
    found.hear("ada", said(price=1), 1.0)
    found.hear("bo", b'{"pass": true}', 1.0)
    assert not found.complete
    found.not_there("cy")
    assert found.complete
    assert found.passed == {"bo"}


def test_a_flood_from_one_agent_is_counted_and_not_kept():
    found = book()
    for number in range(10_000):
        found.hear("ada", said(price=number), 1.0)
    assert (len(found.ignored), found.ignored_count) == (3, 9_999)


def test_zero_is_a_price_and_minus_zero_is_zero():
    offer = read_bid(b'{"price": -0.0}', agent="ada", auction_id="x", task_id="t", after_ms=1)
    assert str(offer.price) == "0.0"
    with pytest.raises(BadBid):
        read_bid(b'{"price": -1e-9}', agent="ada", auction_id="x", task_id="t", after_ms=1)
