"""AgencyTaskGroup and TaskGroup: the specification's names, over the rows."""

from __future__ import annotations

import pytest

from apps.core.errors import Conflict, Invalid
from apps.workflows.agency import AgencyTaskGroup
from tests.integration.workflows.test_engine import task

pytestmark = pytest.mark.store

DOCUMENT = {
    "description": "two groups",
    "task_groups": [
        {"key": "read", "tasks": [task("words", message_template="{city}", result_keys=["text"])]},
        {"key": "write", "dependencies": ["read"], "tasks": [task("page", message_template="{text.message}!", result_keys=["page"])]},
    ],
}


def test_a_session_lives_through_its_phases(flow):
    agency = AgencyTaskGroup.handle("s1", "initialize", DOCUMENT, {"city": "Oslo"}, principal=flow.principal)
    assert agency.initialize() == {"text": "read.words", "page": "write.page"}
    assert agency.initialize_context() == {"city": "Oslo"}
    assert [group.key for group in agency.setup_task_groups()] == ["read", "write"]
    assert agency.get_task_group_id_for_dependency("text") == "read"
    assert agency.running
    with pytest.raises(Conflict):
        agency.send_final_result()
    agency.execute_task_groups()
    flow.hand.settle()
    assert agency.wait_for_task_group_completion("read", timeout_s=5) == "completed"
    assert agency.wait_for_task_group_completion(timeout_s=5) == "completed"
    assert agency.tasks_completed == ["read.words", "write.page"]
    assert agency.send_final_result()["results"] == {"text": {"message": "Oslo"}, "page": {"message": "Oslo!"}}
    assert '"page":{"message":"Oslo!"}' in agency.serialize_context()
    agency.cleanup_session_context()


def test_a_group_tells_what_failed_and_partial_results_are_kept(flow):
    document = {"tasks": [task("good", result_keys=["good"]), {"key": "bad", "agent_class": "Fails", "dependencies": ["good"]}]}
    agency = AgencyTaskGroup.create(document, flow.principal)
    group = agency.setup_and_execute_task_group("main")
    flow.hand.settle()
    assert group.status == "failed" and group.tasks == ["main.good", "main.bad"]
    assert group.tasks_completed == ["main.good"]
    assert [one["path"] for one in group.tasks_failed] == ["main.bad"]
    assert group.process_task_with_dependencies("main.bad") == {"main.good": "completed"}
    assert group.mark_task_complete("main.bad") == "failed"
    told = agency.save_partial_results()
    assert "good" in told["results"] and told["missing"][0]["path"] == "main.bad"


def test_only_initialize_begins_a_session(flow):
    with pytest.raises(Invalid):
        AgencyTaskGroup.handle("s1", "explode", DOCUMENT, principal=flow.principal)


def test_the_context_is_at_hand(flow):
    agency = AgencyTaskGroup.handle("s2", "initialize", DOCUMENT, {"city": "Oslo"}, principal=flow.principal)
    assert "Oslo" in str(agency.context_info.to_json())
