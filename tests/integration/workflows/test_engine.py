"""Sessions from document to result, by hand."""

from __future__ import annotations

import pytest

from apps.workflows.models import Chunk, Item

pytestmark = pytest.mark.store


def task(key: str, **more):
    return {"key": key, "agent_class": "Echo", **more}


def test_a_chain_runs_in_order_and_its_results_reach_those_who_come_after(flow):
    session_id = flow.run(
        {
            "context": {"city": "Oslo"},
            "tasks": [
                task("one", message_template="in {city}", result_keys=["first"]),
                task("two", message_template="after {first.message}", dependencies=["one"], result_keys=["second"]),
            ],
        }
    )
    assert flow.status(session_id) == "completed"
    assert flow.results(session_id) == {"first": {"message": "in Oslo"}, "second": {"message": "after in Oslo"}}


def test_a_fan_makes_one_row_per_item_and_one_write_of_the_context(flow):
    count = 1000
    session_id = flow.run(
        {
            "context": {"numbers": list(range(count))},
            "tasks": [
                task("fan", expansion_config={"type": "array", "array_mapping": {"n": "numbers"}, "output_format": "merge"}),
                task("reduce", message_template="{fan.summary}", dependencies=["fan"]),
            ],
        }
    )
    assert flow.status(session_id) == "completed", flow.sessions.steps(flow.principal, session_id)
    rows = Item.objects.filter(step_run__endswith="main.fan#1").order_by("index")
    assert [row.result for row in rows] == [{"n": n} for n in range(count)]
    assert {row.status for row in rows} == {"completed"}
    assert flow.results(session_id)["fan"]["results"] == [{"n": n} for n in range(count)]
    from apps.workflows.models_context import ContextWrite

    assert ContextWrite.objects.filter(writer__endswith="main.fan#1").count() == 1
    assert Chunk.objects.exclude(status="done").count() == 0
