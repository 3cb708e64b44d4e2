"""What a running platform tells others: webhooks to a real receiver, metrics to Prometheus, the audit trail to an admin."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobplatform_sdk import Client, verify_webhook
from tests.integration.webhooks.receiver import Receiver
from tests.processes import METRICS_TOKEN, wait_until
from tests.services import free_port

pytestmark = pytest.mark.acceptance


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


def test_a_completed_task_is_told_to_its_orgs_endpoint_within_moments(make_org, stack, receiver):
    org = make_org(agents={"ada": {}}, outbound_allow=["127.0.0.1"])
    org.start("ada")
    with Client(stack.url, org.keys["ann"]) as ann:
        made = ann.create_webhook(receiver.url, events=["task.completed"])
        slow = ann.create_webhook(f"http://127.0.0.1:{free_port()}/", description="nobody there")
        ids = [org.entry()["task_id"] for _ in range(20)]
        org.api.submit_bulk([org.entry(task_id=task_id) for task_id in ids])
        assert org.all_ended(20) == {"completed": 20}
        # At least once: whoever died between sending and writing that down sends again, with the same id and bytes.
        wait_until(lambda: len({each.headers["webhook-id"] for each in receiver.got}) >= 20, seconds=60, what="all were told")
        got = list({each.headers["webhook-id"]: each for each in receiver.got}.values())
        told = [verify_webhook(each.body, each.headers, made["secret"]) for each in got]
        assert sorted(each["data"]["task_id"] for each in told) == sorted(ids)
        assert {each["data"]["agent"] for each in told} == {"ada"} and {each["type"] for each in told} == {"task.completed"}

        def logged() -> bool:
            return {each["state"] for each in ann.webhook_deliveries(made["endpoint_id"])["items"]} == {"delivered"}

        wait_until(logged, what="the log says delivered")

        def tried() -> bool:
            failing = ann.webhook_deliveries(slow["endpoint_id"], state="pending", limit=200)["items"]
            return any(each["tries"] for each in failing)

        wait_until(tried, what="the dead endpoint was tried too, in a lane of its own")
        assert {line["kind"] for line in ann.audit()["items"]} >= {"webhook"}
        ann.delete_webhook(slow["endpoint_id"])


def test_metrics_of_all_processes_are_at_one_address(org, stack):
    entry = org.entry()
    org.api.submit(entry)
    org.api.ended(entry["task_id"])

    def scraped() -> dict[tuple[str, ...], float]:
        request = urllib.request.Request(f"{stack.url}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read().decode()
        families = text_string_to_metric_families(text)
        return {(each.name, *sorted(each.labels.values())): each.value for family in families for each in family.samples}

    def of_everybody() -> bool:
        found = scraped()
        wanted = (
            ("jobplatform_task_moves_total", "", "queued"),  # web
            ("jobplatform_decisions_total", "chosen", "least_loaded"),  # dispatcher
            ("jobplatform_nats_publishes_total", "stored"),
            ("jobplatform_reports_total", "applied", "completed"),  # listener
        )
        return all(found.get(series, 0) >= 1 for series in wanted)

    wait_until(of_everybody, what="every process has told what it counted")


def test_an_operator_exports_nothing_and_an_admin_everything(org, stack):
    with Client(stack.url, org.keys["ann"]) as ann:
        lines = [json.loads(line) for line in ann.audit_export().splitlines()]
        assert lines and {line["org_id"] for line in lines} == {org.org_id}
        assert ann.audit_export(form="csv").startswith(b"id,at,org_id,kind")
