import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobplatform_sdk
from jobplatform_sdk.attempt import iso
from jobplatform_sdk.limits import clip, json_problem
from jobplatform_sdk.link import Link
from jobplatform_sdk.task import BadDelivery, read_task
from jobplatform_sdk.threads import Threads

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\x00"))
)


@given(st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3), max_leaves=20))
def test_ordinary_json_has_no_problem(value):
    assert json_problem(value) == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2**63, "64 bits"),
        ([{"a": -(2**63) - 1}], "64 bits"),
        ("a\x00", "NUL"),
        ({"a\x00": 1}, "NUL"),
        (object(), "not JSON"),
        ({str(n): n for n in range(10_001)}, "keys"),
    ],
)
def test_what_no_store_takes_is_named(value, words):
    assert words in json_problem(value)


def test_depth_is_bounded_without_recursion():
    value = "leaf"
    for _ in range(32):
        value = [value]
    assert json_problem(value) == ""
    for _ in range(100_000):
        value = [value]
    assert "deeper" in json_problem(value)


def test_long_texts_are_cut_with_a_sign():
    assert clip("abc", 3) == "abc"
    assert clip("abcd", 3) == "ab…"


@given(st.floats(0, 4e9))
def test_times_are_utc_with_milliseconds(at):
    assert len(iso(at)) == len("2026-11-22T16:00:00.123Z")
    assert iso(at).endswith("Z")


def envelope(**entry):
    return {"event_type": "task", "attempt": 2, "lease_expires_at": "2026-11-22T16:00:00.123Z", "event_data": entry}


def test_a_task_has_short_names_and_everything_raw():
    entry = {
        "task_id": "t1",
        "task_goal": "count",
        "task_intent": "to know",
        "task_priority_value": 7,
        "submitter_subject_id": "acme:sue",
        "task_execution_dsl": None,
        "task_job_submission_data": {"job_space_id": "files", "text": "a b"},
        "task_shiny_new": True,
    }
    task = read_task(envelope(**entry), org_id="acme", task_id="t1")
    assert (task.goal, task.intent, task.priority, task.submitter_subject_id) == ("count", "to know", 7, "acme:sue")
    assert (task.job_space_id, task.execution_dsl, task.attempt, task.kind) == ("files", "", 2, "task")
    assert task.payload["text"] == "a b"
    assert task.raw == entry
    with pytest.raises(AttributeError):
        task.goal = "other"


def test_a_sub_task_reads_the_same():
    document = envelope(sub_task_id="s1", task_id="t1", sub_task_goal="a part", sub_task_intent="so", sub_task_priority_value=1)
    task = read_task(document | {"event_type": "sub_task"}, org_id="acme", task_id="s1")
    assert (task.kind, task.task_id, task.goal, task.intent, task.priority) == ("sub_task", "s1", "a part", "so", 1)


@pytest.mark.parametrize(
    "document", [None, [], {}, {"event_data": {}}, {"event_data": [], "attempt": 1}, {"event_data": {}, "attempt": "1"}]
)
def test_what_is_no_task_says_so(document):
    with pytest.raises(BadDelivery):
        read_task(document, org_id="acme", task_id="t1")


def test_threads_run_at_once_up_to_their_number_and_carry_errors():
    async def story():
        threads, together = Threads(3), threading.Barrier(3)
        assert await asyncio.gather(*(threads.run(lambda: together.wait(10) >= 0) for _ in range(3))) == [True] * 3

        def broken():
            raise KeyError("x")

        with pytest.raises(KeyError):
            await threads.run(broken)
        assert await threads.run(lambda: threading.current_thread().daemon)
        threads.close()

    asyncio.run(story())


@pytest.mark.parametrize("url", ["nats://", "://", "nats://:4222"])
def test_an_address_without_a_host_is_refused_at_once(url):
    with pytest.raises(ValueError, match="address"):
        Link(url, name="x")


def test_every_public_name_can_be_imported():
    assert {name for name in dir(jobplatform_sdk) if hasattr(jobplatform_sdk, name)} >= {"Agent", "Context", "Decline", "Retryable", "Task"}
    with pytest.raises(AttributeError):
        jobplatform_sdk.Nothing  # noqa: B018
