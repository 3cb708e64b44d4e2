"""What an expanded step writes to the context when all its items have ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.workflows import expansion
from apps.workflows.expansion import combine
from apps.workflows.expansion.combine import Ended

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ALICE = Ended(0, "Alice", "completed", {"score": 1, "confidence": 0.5, "analysis": "good"}, "", AT, AT)
BOB = Ended(1, "Bob", "failed", None, "no answer", AT, AT)
CAROL = Ended(2, "Carol", "completed", {"score": 4, "confidence": 1.0, "analysis": "bad"}, "", AT, AT)
ENDED = [CAROL, ALICE, BOB]
MISSING = [{"index": 1, "identifier": "Bob", "status": "failed", "reason": "no answer"}]


def test_merge_collects_the_results_in_item_order_and_says_what_is_missing() -> None:
    ((key, merged),) = combine.combine("merge", ["review"], ENDED).items()
    assert key == "review"
    assert merged["results"] == [ALICE.result, CAROL.result]
    assert merged["summary"] == "2 of 3 items completed; missing: Bob (failed)."
    assert merged["confidence"] == 0.75
    assert merged["missing"] == MISSING
    assert {name: merged["metrics"][name] for name in ("total", "completed", "failed")} == {"total": 3, "completed": 2, "failed": 1}
    assert merged["metrics"]["values"]["score"] == {"count": 2, "min": 1, "max": 4, "mean": 2.5, "sum": 5}


def test_separate_keeps_each_result_under_its_identifier_and_as_a_key_of_its_own() -> None:
    written = combine.combine("separate", ["review"], ENDED)
    assert written["Alice_review"] == ALICE.result and written["Carol_review"] == CAROL.result and "Bob_review" not in written
    assert list(written["review"]["task_results"]) == ["Alice", "Carol"]
    assert written["review"]["metadata"]["order"] == ["Alice", "Bob", "Carol"]
    assert written["review"]["metadata"]["failed"] == 1
    assert written["review"]["timestamps"]["Bob"] == {"started_at": "2026-11-22T12:00:00.000Z", "finished_at": "2026-11-22T12:00:00.000Z"}
    assert written["review"]["missing"] == MISSING


def test_single_is_one_score_one_confidence_and_the_analyses() -> None:
    single = combine.combine("single", ["review"], ENDED)["review"]
    assert (single["final_score"], single["confidence"]) == (2.5, 0.75)
    assert single["analysis"] == [{"item": "Alice", "analysis": "good"}, {"item": "Carol", "analysis": "bad"}]
    assert single["missing"] == MISSING


def test_unprocessed_output_is_bare() -> None:
    bare = {"process_array_output": False}
    assert combine.combine("merge", ["r"], ENDED, **bare) == {"r": [ALICE.result, CAROL.result]}
    assert combine.combine("separate", ["r"], ENDED, **bare) == {"Alice_r": ALICE.result, "Carol_r": CAROL.result}
    assert combine.combine("single", ["r"], ENDED, **bare) == {"r": ALICE.result}


def test_no_items_have_a_defined_result() -> None:
    merged = combine.combine("merge", ["r"], [])["r"]
    assert (merged["results"], merged["confidence"], merged["metrics"]["total"], merged["missing"]) == ([], None, 0, [])
    separate = combine.combine("separate", ["r"], [])
    assert list(separate) == ["r"] and separate["r"]["task_results"] == {} and separate["r"]["metadata"]["total"] == 0
    single = combine.combine("single", ["r"], [])["r"]
    assert (single["final_score"], single["confidence"], single["analysis"]) == (None, None, [])
    bare = {"process_array_output": False}
    assert [combine.combine(one, ["r"], [], **bare) for one in ("merge", "separate", "single")] == [{"r": []}, {}, {"r": None}]


def test_several_result_keys_are_taken_out_of_each_result() -> None:
    ended = [Ended(0, "a", "completed", {"x": 1, "y": 2}), Ended(1, "b", "completed", {"x": 3})]
    written = combine.combine(None, ["x", "y"], ended)
    assert written["x"]["results"] == [1, 3] and written["y"]["results"] == [2]
    assert written["y"]["missing"] == [{"index": 1, "identifier": "b", "status": "completed", "reason": "its result has no 'y'"}]
    assert combine.combine(None, ["x"], ended)["x"]["results"] == [1, 3]
    assert combine.combine(None, [], ended) == {}


def test_a_step_that_is_not_expanded_writes_its_result_plainly() -> None:
    assert combine.plain(["r"], "text") == {"r": "text"}
    assert combine.plain(["r"], {"r": 1, "s": 2}) == {"r": 1}
    assert combine.plain(["r", "s"], {"r": 1}) == {"r": 1, "s": None}


@pytest.mark.parametrize(
    ("strategy", "results"),
    [("list", [[1, 2], 3, {"a": 1}, {"a": 2}]), ("flatten", [1, 2, 3, {"a": 1}, {"a": 2}]), ("object", {"a": 2})],
)
def test_merge_strategies(strategy: str, results: Any) -> None:
    ended = [Ended(index, str(index), "completed", result) for index, result in enumerate([[1, 2], 3, {"a": 1}, {"a": 2}])]
    assert combine.combine("merge", ["r"], ended, merge_strategy=strategy)["r"]["results"] == results


def test_numbers_beyond_reason_do_not_break_the_metrics() -> None:
    ended = [Ended(index, str(index), "completed", value) for index, value in enumerate([1.7e308, 1.7e308, True, "7", None])]
    assert combine.combine("merge", ["r"], ended)["r"]["metrics"]["values"]["value"]["sum"] is None


def test_a_result_key_of_the_step_is_not_hidden_by_an_item_of_that_name() -> None:
    ended = [Ended(0, "a", "completed", {"x": 1, "a_x": 2})]
    assert "task_results" in combine.combine("separate", ["x", "a_x"], ended)["a_x"]


def test_a_merged_output_is_walked_by_the_next_expansion() -> None:
    merged = combine.combine("merge", ["review"], ENDED)
    found = expansion.expand({"type": "array", "array_mapping": {"one": "review"}}, {}, merged)
    assert [item.values["one"] for item in found.items] == [ALICE.result, CAROL.result]


fields = st.dictionaries(st.sampled_from(["score", "confidence", "r"]), st.floats() | st.text(max_size=2))
results = st.none() | st.integers() | st.floats() | st.text(max_size=3) | fields
endings = st.lists(st.tuples(st.sampled_from(["completed", "failed", "cancelled", "skipped", "timed_out"]), results), max_size=8)


@given(endings, st.sampled_from(expansion.OUTPUT_FORMATS), st.randoms(use_true_random=False))
def test_the_order_in_which_items_ended_changes_nothing_and_each_is_there_or_missing(ends: Any, output_format: str, shuffle: Any) -> None:
    ended = [Ended(index, f"i{index}", status, result) for index, (status, result) in enumerate(ends)]
    first = combine.combine(output_format, ["r"], ended)
    shuffled = list(ended)
    shuffle.shuffle(shuffled)
    assert repr(combine.combine(output_format, ["r"], shuffled)) == repr(first)
    listed = {"merge": "results", "separate": "task_results", "single": "analysis"}[output_format]
    assert len(first["r"][listed]) + len(first["r"]["missing"]) == len(ended)
