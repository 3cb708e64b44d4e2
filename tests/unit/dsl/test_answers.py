"""An answer is parsed before it is believed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.agents.market.terms import Terms
from apps.dsl.answers import PRIORITY_MAX, PRIORITY_MIN, TERMS, BadAnswer, parse, strangers
from apps.dsl.policies import Hook

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
NAMES = [
    "accepted", "reason", "priority", "capabilities", "bid_window_ms", "reserve_price", "weights", "rule", "min_bids",
    "head_agent_subject_id", "max_candidates", "max_eta_s", "min_confidence", "min_reputation", "brief",
]  # fmt: skip
NEARLY = st.dictionaries(st.sampled_from(NAMES), JSON | st.sampled_from([1, 0, "true", True, None, "first_price", "ada"]), max_size=6)
CANDIDATES = {"task": {}, "candidates": [{"subject_id": "ada"}, {"subject_id": "bo"}]}


@given(hook=st.sampled_from(Hook), value=JSON | NEARLY)
def test_any_value_is_either_parsed_or_refused_with_a_sentence(hook, value):
    before = json.dumps(value)
    try:
        answer = parse(hook, value, CANDIDATES)
    except BadAnswer as bad:
        assert 0 < len(str(bad)) < 1000
    else:
        assert value.items() <= answer.items(), "what the script said is kept"
    assert json.dumps(value) == before, "and not touched"


@given(value=JSON | NEARLY)
def test_nothing_but_true_accepts(value):
    try:
        answer = parse(Hook.APPROVAL, value, {})
    except BadAnswer:
        return
    assert (answer["accepted"] is True) == (value["accepted"] is True)
    assert answer["accepted"] in (True, False, None)
    assert type(answer["accepted"]) in (bool, type(None))
    assert type(answer["reason"]) is str


@given(value=JSON | NEARLY)
def test_a_priority_is_a_whole_number_within_bounds(value):
    try:
        answer = parse(Hook.PRIORITY, value, {})
    except BadAnswer:
        return
    assert type(answer["priority"]) is int
    assert PRIORITY_MIN <= answer["priority"] <= PRIORITY_MAX


@given(value=JSON | NEARLY)
def test_a_plan_names_one_of_its_candidates(value):
    try:
        answer = parse(Hook.PLAN_RETRIEVE, value, CANDIDATES)
    except BadAnswer:
        return
    assert answer["head_agent_subject_id"] in {"ada", "bo"}


@pytest.mark.parametrize(
    ("hook", "value", "sentence"),
    [
        (Hook.APPROVAL, None, "the answer must be a dict, not None"),
        (Hook.APPROVAL, [True], "the answer must be a dict, not a list"),
        (Hook.APPROVAL, {}, "the answer has no `accepted`"),
        (Hook.APPROVAL, {"accepted": 1}, "`accepted` must be True, False or None, not a number"),
        (Hook.APPROVAL, {"accepted": "yes"}, "`accepted` must be True, False or None, not text"),
        (Hook.APPROVAL, {"accepted": True, "reason": None}, "`reason` must be text, not None"),
        (Hook.APPROVAL, {"accepted": True, "reason": "x" * 2001}, "`reason` must have at most 2000 characters, not 2001"),
        (Hook.PRIORITY, {"priority": True}, "`priority` must be a whole number, not a truth value"),
        (Hook.PRIORITY, {"priority": 1.0}, "`priority` must be a whole number, not a fraction"),
        (Hook.PRIORITY, {"priority": 1001}, "`priority` must be from -1000 to 1000, not 1001"),
        (Hook.PRIORITY, {}, "`priority` must be a whole number, not None"),
        (Hook.AUCTION_INPUT, {"bid_window_ms": 0}, "`bid_window_ms` must be from 10 to 10000, not 0"),
        (Hook.AUCTION_INPUT, {"capabilities": "python"}, "`capabilities` must be a list of names"),
        (Hook.AUCTION_INPUT, {"reserve_price": -1}, "`reserve_price` must be a number from 0, or None"),
        (Hook.AUCTION_INPUT, {"reserve_price": float("nan")}, "`reserve_price` must be a number from 0, or None"),
        (Hook.AUCTION_INPUT, {"weights": {"price": "much"}}, "`weights` must be a dict of numbers from 0"),
        (Hook.AUCTION_INPUT, {"weights": {"price": -1}}, "`weights` must be a dict of numbers from 0"),
        (Hook.AUCTION_INPUT, {"weights": {"price": 0}}, "`weights` must not all be 0"),
        (
            Hook.AUCTION_INPUT,
            {"weights": {"beauty": 1}},
            "`weights` may hold price, eta, confidence, load, reputation, calibration, not 'beauty'",
        ),
        (Hook.AUCTION_INPUT, {"rule": "dutch"}, "`rule` must be one of first_price, second_price, weighted"),
        (Hook.AUCTION_INPUT, {"max_candidates": 0}, "`max_candidates` must be from 1 to 10000, not 0"),
        (Hook.AUCTION_INPUT, {"max_eta_s": "soon"}, "`max_eta_s` must be a number from 0, or None"),
        (Hook.AUCTION_INPUT, {"min_confidence": 2}, "`min_confidence` must be a number from 0 to 1"),
        (Hook.AUCTION_INPUT, {"min_reputation": True}, "`min_reputation` must be a number from 0 to 1"),
        (Hook.AUCTION_INPUT, {"brief": {"text": "x" * 9000}}, "`brief` must be a dict of at most 8192 bytes as JSON"),
        (Hook.PLAN_RETRIEVE, {"head_agent_subject_id": "eve"}, "`head_agent_subject_id` 'eve' is not a candidate; these are: ada, bo"),
        (Hook.PLAN_RETRIEVE, {"head_agent_subject_id": "adda"}, "`head_agent_subject_id` 'adda' is not a candidate; did you mean ada?"),
        (Hook.PLAN_RETRIEVE, {}, "`head_agent_subject_id` must be text, not None"),
    ],
)
def test_a_bad_answer_is_named(hook, value, sentence):
    with pytest.raises(BadAnswer) as raised:
        parse(hook, value, CANDIDATES)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("accepted", [True, False, None])
def test_an_approval_keeps_what_else_the_script_said(accepted):
    answer = parse(Hook.APPROVAL, {"accepted": accepted, "risk": 3}, {})
    assert answer == {"accepted": accepted, "reason": "", "risk": 3}


def test_an_auction_may_leave_everything_to_the_platform():
    assert parse(Hook.AUCTION_INPUT, {}, {}) == {}


def test_what_is_no_term_of_an_auction_is_told_with_what_may_have_been_meant():
    answer = {"reserve": 5, "rule": "first_price", "reason": "cheap", "house_rule": 1}
    assert strangers(Hook.AUCTION_INPUT, answer) == "no terms of our auctions: reserve (did you mean reserve_price?), house_rule"
    assert strangers(Hook.AUCTION_INPUT, {"min_bids": 2}) == strangers(Hook.APPROVAL, {"reserve": 5}) == ""
    assert set(TERMS) == set(Terms.__slots__)
