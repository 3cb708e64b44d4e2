"""What the parser takes and what it refuses, and that it names everything that is wrong."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.errors import Invalid
from apps.tasks.entries import ExecutionMode
from apps.tasks.parser import FIELDS, InitialJobParser
from tests.factories import NOON, make_entry

# A wire that an earlier test left looking for its server takes its pauses from `random`.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

parse = InitialJobParser().parse


def problems_of(data) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        parse(data)
    assert caught.value.status == 422
    assert all(problem.message for problem in caught.value.problems)
    return {problem.field: problem.code for problem in caught.value.problems}


def test_a_full_entry_in_wire_names_is_read():
    entry = parse(
        make_entry(
            task_id="t-1",
            task_priority_value=-7,
            task_streeability_data={"max_steps": 3},
            task_knowledgebase_ptr="kb://1",
            task_op_convertor_dsl_id="approval/strict",
            task_execution_dsl="run.py",
            task_completion_timeline={"due": "2026-12-01T01:00:00+01:00", "not_before": "1795910400", "mode": "soft"},
            task_execution_mode="automatic",
            task_behavior_dsl_map={"priority_assigner_dsl_id": "priority/vip", "other": 1},
            task_contracts_map={"c": 1},
            task_verification_subject_id="acme:vera",
            task_job_submission_data={"job_space_id": "space-1", "job_id": "j"},
        )
    )
    assert (entry.task_id, entry.priority, entry.org_id, entry.key) == ("t-1", -7, "acme", "acme/t-1")
    assert entry.steerability == {"max_steps": 3}
    assert entry.approval_script_id == "approval/strict"
    assert entry.priority_script_id == "priority/vip"
    assert entry.execution_mode is ExecutionMode.AUTO
    assert entry.job_space_id == "space-1"
    assert entry.due == datetime(2026, 12, 1, tzinfo=UTC)
    assert entry.not_before == datetime(2026, 11, 29, tzinfo=UTC)


def test_short_names_and_the_right_spelling_mean_the_same():
    long = make_entry(task_id="t", task_streeability_data={"a": 1})
    short = {
        "priority": long["task_priority_value"],
        "intent": long["task_intent"],
        "goal": long["task_goal"],
        "task_steerability_data": {"a": 1},
        **{
            name: value
            for name, value in long.items()
            if name not in {"task_priority_value", "task_intent", "task_goal", "task_streeability_data"}
        },
    }
    assert parse(short) == parse(long)


def test_the_least_that_is_needed():
    entry = parse({"task_id": "t", "goal": "g", "intent": "i", "priority": 0, "submitter_subject_id": "acme:sam"})
    assert entry.to_wire(now=NOON) == {
        "task_id": "t",
        "task_goal": "g",
        "task_intent": "i",
        "task_priority_value": 0,
        "task_streeability_data": {},
        "task_knowledgebase_ptr": None,
        "submitter_subject_id": "acme:sam",
        "task_op_convertor_dsl_id": None,
        "task_execution_dsl": None,
        "task_submission_ts": "2026-11-22T12:00:00.000Z",
        "task_completion_timeline": {},
        "task_execution_mode": "auto",
        "task_behavior_dsl_map": {},
        "task_contracts_map": {},
        "task_verification_subject_id": "",
        "task_job_submission_data": {},
    }


def test_a_top_level_job_space_reaches_the_agent_where_agents_look():
    entry = parse(make_entry(job_space_id="s1", task_job_submission_data={"a": 1}))
    assert entry.job_space_id == "s1"
    assert entry.to_wire(now=NOON)["task_job_submission_data"] == {"a": 1, "job_space_id": "s1"}


TIMES = ["1795348800", "1795348800.25", "2026-11-22T12:00:00Z", "2026-11-22T12:00:00.123456+02:00", "20261122T120000Z"]


@pytest.mark.parametrize("ts", TIMES)
def test_submission_times_stay_as_they_were_written(ts):
    assert parse(make_entry(task_submission_ts=ts)).to_wire(now=NOON)["task_submission_ts"] == ts


@pytest.mark.parametrize("task_id", ["t", "_x", "0", "a.b", "a:b@c+d=e~f,g-h", "6f1d2c3e-0000-4000-8000-000000000000", "x" * 180])
def test_ids_that_are_fine(task_id):
    assert parse(make_entry(task_id=task_id)).task_id == task_id


BAD_IDS = [
    "", "x" * 181, "x" * 1000, "../", "..", ".", "a/b", "%00", "a\x00b", "a\nb", "a\n", "a b", " a", "a ", "\t", "*", "a.*", ">", "a>",
    "😀", "\u202eabc", "עברית", "é", "e\u0301", "\u200b", "-rf", "a;b", "a'b", "a\\b", "a#b", "a?b", "{a}", "$where",
    "bulk", "stream", "summary",
]  # fmt: skip


@pytest.mark.parametrize("task_id", BAD_IDS, ids=ascii)
def test_ids_that_are_not(task_id):
    assert list(problems_of(make_entry(task_id=task_id))) == ["task_id"]


@pytest.mark.parametrize("field", [field.wire for field in FIELDS if field.required])
def test_required_fields_may_not_be_missing_or_null(field):
    entry = make_entry()
    assert problems_of({**entry, field: None}) == {field: "null"}
    del entry[field]
    assert problems_of(entry) == {field: "missing"}


WRONG_TYPES = {
    str: (True, 1, 1.5, [], {}),
    int: (True, 1.0, "1", "", [], {}, 1e300, -0.0),
    dict: (True, 1, "x", [], [1]),
}
TYPES = {"task_priority_value": int, **dict.fromkeys(
    ("task_streeability_data", "task_completion_timeline", "task_behavior_dsl_map", "task_contracts_map", "task_job_submission_data"), dict
)}  # fmt: skip


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.wire)
def test_a_wrong_type_is_named(field):
    for wrong in WRONG_TYPES[TYPES.get(field.wire, str)]:
        assert problems_of({**make_entry(), field.wire: wrong}) == {field.wire: "wrong_type"}, wrong


@pytest.mark.parametrize("field", ["task_knowledgebase_ptr", "task_op_convertor_dsl_id", "task_execution_dsl", "job_space_id"])
def test_pointers_may_be_null(field):
    parse(make_entry(**{field: None}))


def test_objects_may_not_be_null():
    for field, kind in TYPES.items():
        if kind is dict:
            assert problems_of(make_entry(**{field: None})) == {field: "null"}


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"task_priority_value": 1001}, {"task_priority_value": "out_of_range"}),
        ({"task_priority_value": -1001}, {"task_priority_value": "out_of_range"}),
        ({"task_priority_value": 2**63}, {"task_priority_value": "out_of_range"}),
        ({"task_goal": ""}, {"task_goal": "empty"}),
        ({"task_intent": " \n"}, {"task_intent": "empty"}),
        ({"task_goal": "x" * 65537}, {"task_goal": "too_long"}),
        ({"submitter_subject_id": ""}, {"submitter_subject_id": "empty"}),
        ({"submitter_subject_id": "acme:" + "x" * 180}, {"submitter_subject_id": "too_long"}),
        ({"submitter_subject_id": "acme:a\nb"}, {"submitter_subject_id": "bad_id"}),
        ({"submitter_subject_id": "acme:sam "}, {"submitter_subject_id": "bad_id"}),
        ({"submitter_subject_id": "acme:e\u0301"}, {"submitter_subject_id": "not_normalized"}),
        ({"submitter_subject_id": "acme:\u202esam"}, {"submitter_subject_id": "bad_id"}),
        ({"task_execution_mode": "AUTO"}, {"task_execution_mode": "not_allowed"}),
        ({"task_execution_mode": ""}, {"task_execution_mode": "not_allowed"}),
        ({"task_op_convertor_dsl_id": "x" * 121}, {"task_op_convertor_dsl_id": "too_long"}),
        ({"task_behavior_dsl_map": {"auction_input_dsl_id": 5}}, {"task_behavior_dsl_map.auction_input_dsl_id": "wrong_type"}),
        (
            {"task_behavior_dsl_map": {"agent_resolution_strategy": "lottery"}},
            {"task_behavior_dsl_map.agent_resolution_strategy": "not_allowed"},
        ),
        ({"task_behavior_dsl_map": {"agent_resolution_strategy": []}}, {"task_behavior_dsl_map.agent_resolution_strategy": "not_allowed"}),
        ({"task_job_submission_data": {"job_space_id": 5}}, {"task_job_submission_data.job_space_id": "wrong_type"}),
        ({"job_space_id": "a", "task_job_submission_data": {"job_space_id": "b"}}, {"job_space_id": "conflict"}),
        ({"task_submission_ts": "2026-11-22T12:00:00"}, {"task_submission_ts": "no_zone"}),
        ({"task_submission_ts": "yesterday"}, {"task_submission_ts": "bad_time"}),
        ({"task_submission_ts": ""}, {"task_submission_ts": "bad_time"}),
        ({"task_submission_ts": "-5"}, {"task_submission_ts": "bad_time"}),
        ({"task_submission_ts": "1e9"}, {"task_submission_ts": "bad_time"}),
        ({"task_submission_ts": "999999999999"}, {"task_submission_ts": "bad_time"}),
        ({"task_submission_ts": "2500-01-01T00:00:00Z"}, {"task_submission_ts": "out_of_range"}),
        ({"task_submission_ts": "0001-01-01T00:00:00+14:00"}, {"task_submission_ts": "bad_time"}),
        ({"task_submission_ts": "100000-01-01T00:00:00Z"}, {"task_submission_ts": "bad_time"}),
        ({"task_completion_timeline": {"due": None}}, {"task_completion_timeline.due": "null"}),
        ({"task_completion_timeline": {"due": 1795348800}}, {"task_completion_timeline.due": "wrong_type"}),
        ({"task_completion_timeline": {"due": "2026-12-01"}}, {"task_completion_timeline.due": "no_zone"}),
        (
            {"task_completion_timeline": {"due": "2026-12-01T00:00:00Z", "not_before": "2026-12-01T00:00:00Z"}},
            {"task_completion_timeline.not_before": "out_of_range"},
        ),
        ({"goal": "again"}, {"goal": "duplicate"}),
        ({"task_steerability_data": {}, "task_streeability_data": {}}, {"task_streeability_data": "duplicate"}),
        ({"surprise": 1}, {"surprise": "unknown"}),
        ({"": 1}, {"": "unknown"}),
        ({"a\x1b[31m" + "b" * 100: 1}, {"a\\x1b[31m" + "b" * 74: "unknown"}),
        ({"__class__": {}}, {"__class__": "unknown"}),
        *[
            ({name: 1}, {name: "server_owned"})
            for name in ("status", "assigned_agent", "head_agent_subject_id", "attempt", "org", "org_id", "score", "result", "max_attempts")
        ],
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_what_is_wrong_is_named(fields, wrong):
    assert problems_of({**make_entry(), **fields}) == wrong


@pytest.mark.parametrize("data", [None, True, 1, "x", [], [{}]])
def test_an_entry_is_an_object(data):
    assert list(problems_of(data)) == [""]


def test_everything_wrong_is_told_at_once():
    assert problems_of(
        {
            "task_id": "a b",
            "task_goal": 5,
            "task_priority_value": "1",
            "task_completion_timeline": {"due": "soon"},
            "status": "completed",
            "nope": None,
        }
    ) == {
        "task_id": "bad_id",
        "task_goal": "wrong_type",
        "task_priority_value": "wrong_type",
        "task_completion_timeline.due": "bad_time",
        "status": "server_owned",
        "nope": "unknown",
        "task_intent": "missing",
        "submitter_subject_id": "missing",
    }


def test_the_hash_depends_on_what_is_said_and_not_on_how():
    entry = make_entry(task_id="t", task_job_submission_data={"a": 1, "b": {"c": 2, "d": 3}})
    same = dict(reversed(entry.items()))
    same["task_job_submission_data"] = {"b": {"d": 3, "c": 2}, "a": 1}
    assert parse(entry).body_hash == parse(same).body_hash
    for other in ({"task_goal": "other"}, {"task_job_submission_data": {"a": 1.0, "b": {"c": 2, "d": 3}}}, {"task_priority_value": 1}):
        assert parse({**entry, **other}).body_hash != parse(entry).body_hash


def test_an_entry_that_json_cannot_say_is_refused():
    assert problems_of(make_entry(task_goal="\ud800")) == {"": "not_json"}
    assert problems_of(make_entry(task_contracts_map={"a": 2**64})) == {"": "not_json"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
def test_any_json_is_an_entry_or_a_list_of_problems(data):
    assert problems_of(data)


@given(st.dictionaries(st.sampled_from([name for field in FIELDS for name in (field.wire, *field.aliases)]), json_values))
def test_any_values_in_known_fields_are_an_entry_or_a_list_of_problems(fields):
    try:
        parse({**make_entry(), **fields})
    except Invalid as error:
        assert error.problems


letters = st.characters(exclude_categories=("Cs",))


@given(
    goal=st.text(min_size=1, max_size=50, alphabet=letters).filter(lambda text: not text.isspace()),
    priority=st.integers(-1000, 1000),
    payload=st.dictionaries(st.text(max_size=8, alphabet=letters), st.integers(-(2**53), 2**53), max_size=4),
    mode=st.sampled_from(["auto", "automatic", "manual", "hybrid"]),
    space=st.sampled_from(["", "s1"]),
)
def test_what_goes_out_comes_back_the_same(goal, priority, payload, mode, space):
    entry = parse(
        make_entry(
            task_goal=goal, task_priority_value=priority, task_execution_mode=mode, job_space_id=space,
            task_job_submission_data={name: value for name, value in payload.items() if name != "job_space_id"},
        )
    )  # fmt: skip
    again = parse(entry.to_wire(now=NOON))
    # The job space has moved into the payload, so the hash, which is of what was sent, differs.
    assert dataclasses.replace(again, body_hash="", payload={}) == dataclasses.replace(entry, body_hash="", payload={})
