"""What a policy script sees of a task."""

from __future__ import annotations

from apps.dsl.facts import task_facts
from jobplatform.env import BASE_DIR
from tests.factories import make_entry


def test_short_names_stand_for_the_wire_names():
    entry = make_entry(
        task_id="t1",
        task_priority_value=7,
        task_streeability_data={"retries": 2},
        task_knowledgebase_ptr="kb:1",
        task_execution_dsl="run",
        task_completion_timeline={"due": "2026-12-01T00:00:00Z", "mode": "soft"},
        task_behavior_dsl_map={"priority_assigner_dsl_id": "p"},
        task_contracts_map={"sla": 1},
        task_verification_subject_id="acme:vera",
        task_job_submission_data={"job_space_id": "space", "path": "a.py"},
    )
    assert task_facts(entry) == {
        "kind": "task",
        "task_id": "t1",
        "parent_task_id": "",
        "org_id": "acme",
        "goal": "count the words",
        "intent": "to know how long it is",
        "priority": 7,
        "submitter_subject_id": "acme:sam",
        "job_space_id": "space",
        "execution_mode": "auto",
        "execution_dsl": "run",
        "knowledgebase_ptr": "kb:1",
        "verification_subject_id": "acme:vera",
        "submitted_at": "2026-11-22T12:00:00Z",
        "due": "2026-12-01T00:00:00Z",
        "timeline": {"due": "2026-12-01T00:00:00Z", "mode": "soft"},
        "behavior": {"priority_assigner_dsl_id": "p"},
        "contracts": {"sla": 1},
        "metadata": {"retries": 2},
        "payload": {"job_space_id": "space", "path": "a.py"},
    }


def test_every_name_is_there_even_when_nothing_was_sent():
    full, empty = task_facts(make_entry()), task_facts({})
    assert full.keys() == empty.keys()
    assert (empty["goal"], empty["priority"], empty["payload"], empty["execution_mode"]) == ("", 0, {}, "auto")


def test_null_reads_as_empty():
    facts = task_facts(make_entry(task_knowledgebase_ptr=None, task_job_submission_data=None, task_completion_timeline=None))
    assert (facts["knowledgebase_ptr"], facts["payload"], facts["due"]) == ("", {}, "")


def test_the_right_spelling_and_the_top_level_job_space_are_read_too():
    facts = task_facts(make_entry(task_steerability_data={"a": 1}, job_space_id="top"))
    assert (facts["metadata"], facts["job_space_id"]) == ({"a": 1}, "top")


def test_the_authenticated_org_goes_before_the_convention():
    assert task_facts(make_entry(), org_id="other")["org_id"] == "other"


def test_a_sub_task_has_the_same_names_and_its_parent():
    facts = task_facts({"sub_task_id": "s1", "task_id": "t1", "sub_task_goal": "g", "sub_task_intent": "i", "sub_task_priority_value": 3})
    assert (facts["kind"], facts["task_id"], facts["parent_task_id"], facts["priority"]) == ("sub_task", "s1", "t1", 3)


def test_the_entry_is_left_as_it_was():
    entry = make_entry(task_job_submission_data={"path": "x"})
    before = {**entry}
    task_facts(entry)
    assert entry == before


def test_every_name_is_in_the_manual():
    manual = (BASE_DIR / "docs" / "policies.md").read_text()
    table = manual.partition("## What a script sees")[2].partition("## Versions")[0]
    assert [name for name in task_facts({}) if f"`{name}`" not in table] == []


def test_the_first_policy_of_the_manual_works(ask):
    manual = (BASE_DIR / "docs" / "policies.md").read_text()
    source = manual.partition("```python\n")[2].partition("```")[0]
    small, urgent, large = (
        ask("approval/small", task_facts(make_entry(task_priority_value=priority, task_job_submission_data=payload)), source=source)
        for priority, payload in ((0, {}), (500, {}), (0, {"size_bytes": 2**21}))
    )
    assert [answer["accepted"] for answer in (small, urgent, large)] == [True, None, False]
    assert large["reason"] == "2097152 bytes are more than 1048576"
