"""When a step is done: from the numbers of its items alone."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.workflows.document.spec import Join, NodeSpec, Retry, TaskSpec
from apps.workflows.planning.joins import delay, join, needed
from apps.workflows.planning.plan import Counts, Decision

D = Decision


def step(**task: object) -> NodeSpec:
    return NodeSpec(path="m.s", key="s", kind="step", parent="m", position=1, task=TaskSpec(**task))  # type: ignore[arg-type]


def counts(**of: int) -> Counts:
    return Counts(total=sum(of.values()), **of)


@pytest.mark.parametrize(
    ("rule", "items", "decision"),
    [
        (Join(rule="all"), counts(completed=3), D.HOLDS),
        (Join(rule="all"), counts(completed=2, running=1), D.UNDECIDED),
        (Join(rule="all"), counts(completed=2, failed=1), D.FAILS),
        (Join(rule="all"), counts(completed=2, skipped=1), D.HOLDS),
        (Join(rule="any"), counts(completed=1, failed=9), D.HOLDS),
        (Join(rule="any"), counts(completed=1, pending=1), D.UNDECIDED),
        (Join(rule="any"), counts(failed=2), D.FAILS),
        (Join(rule="at_least", n=2), counts(completed=2, failed=1), D.HOLDS),
        (Join(rule="at_least", n=5), counts(pending=3), D.FAILS),
        (Join(rule="percent", n=50), counts(completed=2, failed=1), D.HOLDS),
        (Join(rule="percent", n=67), counts(completed=2, failed=1), D.FAILS),
        (Join(rule="first", n=2), counts(completed=2, running=50), D.HOLDS),
        (Join(rule="first", n=9), counts(completed=3), D.HOLDS),
        (Join(rule="ended"), counts(completed=1, failed=2, timed_out=1), D.HOLDS),
        (Join(rule="ended"), counts(failed=2), D.FAILS),
        (Join(rule="all"), counts(), D.HOLDS),
        (Join(rule="ended"), counts(), D.HOLDS),
        (Join(rule="first", n=1), counts(), D.HOLDS),
        (Join(rule="at_least", n=1), counts(), D.FAILS),
    ],
)
def test_a_rule_asks_for_its_number_of_completed_items(rule: Join, items: Counts, decision: Decision):
    assert join(step(join=rule, continue_on_error=True), items, attempt=1).decision is decision


def test_the_share_of_a_hundred_is_rounded_up():
    assert [needed(Join(rule="percent", n=n), 10) for n in (1, 10, 11, 99.9, 100)] == [1, 1, 2, 10, 10]
    assert needed(Join(rule="percent", n=33.3), 1000) == 333


def test_what_is_missing_is_listed():
    verdict = join(step(join=Join(rule="ended"), continue_on_error=True), counts(completed=1, failed=2, timed_out=1), attempt=1)
    assert verdict.missing == {"failed": 2, "timed_out": 1}
    assert verdict.because == "1 of 4 items completed"


def test_failed_items_are_tried_again_while_attempts_are_left():
    twice = step(retry=Retry(max_retries=2))
    assert join(twice, counts(failed=1), attempt=1).decision is D.RETRY
    assert join(twice, counts(failed=1), attempt=2).decision is D.RETRY
    assert join(twice, counts(timed_out=1), attempt=3).decision is D.FAILS


def test_a_rule_content_with_some_does_not_try_the_others_again():
    assert join(step(join=Join(rule="any"), retry=Retry(max_retries=2)), counts(completed=1, failed=1), attempt=1).decision is D.HOLDS
    going_on = step(join=Join(rule="ended"), retry=Retry(max_retries=2), continue_on_error=True)
    assert join(going_on, counts(completed=1, failed=1), attempt=1).decision is D.RETRY
    assert join(going_on, counts(completed=1, failed=1), attempt=3).decision is D.HOLDS


def test_the_first_to_fail_ends_a_fail_fast_step_on_its_last_attempt():
    fast = step(fail_fast=True, retry=Retry(max_retries=1))
    assert join(fast, counts(failed=1, running=5), attempt=1).decision is D.UNDECIDED
    assert join(fast, counts(failed=1, running=5), attempt=2).decision is D.FAILS


def test_without_continue_on_error_a_step_ends_when_its_rule_cannot_hold_any_more():
    assert join(step(), counts(failed=1, running=5), attempt=1).decision is D.FAILS
    assert join(step(continue_on_error=True), counts(failed=1, running=5), attempt=1).decision is D.UNDECIDED


def test_what_was_cancelled_by_hand_is_not_tried_again():
    assert join(step(retry=Retry(max_retries=5)), counts(completed=1, cancelled=1), attempt=1).decision is D.FAILS


def test_delays_follow_the_list_and_its_last_goes_on():
    retry = Retry(max_retries=9, delays=(1, 5, 15))
    assert [delay(retry, attempt, seed="s").seconds for attempt in (1, 2, 3, 4, 9)] == [1, 5, 15, 15, 15]


def test_backoff_grows_to_its_bound_and_jitter_is_the_same_in_every_process():
    retry = Retry(max_retries=9, initial_s=1, factor=2, max_s=10)
    assert [delay(retry, attempt, seed="s").seconds for attempt in range(1, 7)] == [1, 2, 4, 8, 10, 10]
    jittered = dataclasses.replace(retry, jitter=0.5)
    drawn = {delay(jittered, 3, seed=f"s{number}") for number in range(50)}
    assert len(drawn) > 40
    assert all(timedelta(seconds=2) <= one <= timedelta(seconds=4) for one in drawn)
    assert delay(jittered, 3, seed="s1") == delay(jittered, 3, seed="s1")


numbers = st.integers(0, 4)
steps = st.builds(
    step,
    join=st.one_of(
        st.sampled_from([Join(rule="all"), Join(rule="any"), Join(rule="ended")]),
        st.builds(Join, rule=st.sampled_from(["at_least", "first"]), n=st.integers(1, 6)),
        st.builds(Join, rule=st.just("percent"), n=st.integers(1, 100)),
    ),
    retry=st.builds(Retry, max_retries=st.integers(0, 2)),
    fail_fast=st.booleans(),
    continue_on_error=st.booleans(),
)
items = st.builds(counts, **dict.fromkeys(("pending", "running", "completed", "failed", "skipped", "cancelled", "timed_out"), numbers))


@given(steps, items, st.integers(1, 4))
def test_a_decision_stands_when_the_open_items_have_been_cancelled_for_it(node: NodeSpec, found: Counts, attempt: int):
    decision = join(node, found, attempt=attempt).decision
    if not found.open:
        assert decision is not D.UNDECIDED
    elif decision is not D.UNDECIDED:
        after = dataclasses.replace(found, pending=0, running=0, cancelled=found.cancelled + found.open)
        assert join(node, after, attempt=attempt).decision is decision


@given(steps, items)
def test_no_step_is_tried_again_for_ever(node: NodeSpec, found: Counts):
    assert node.task is not None
    assert join(node, found, attempt=node.task.retry.max_retries + 1).decision is not D.RETRY


@given(steps, items, st.integers(1, 4))
def test_what_holds_has_what_the_rule_asks_for(node: NodeSpec, found: Counts, attempt: int):
    if join(node, found, attempt=attempt).decision is D.HOLDS:
        assert node.task is not None
        assert found.completed >= needed(node.task.join, found.total - found.skipped)
