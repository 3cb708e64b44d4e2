"""Metrics: counted in every process, read in one place, and no tenant sees another's."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from apps.core import observe
from apps.core.observe_read import counted, exposition
from tests.factories import bearer, make_entry, make_key, make_org, make_task

pytestmark = pytest.mark.django_db
TOKEN = "a-token-for-prometheus"


@pytest.fixture(autouse=True)
def nothing_counted():
    """Nor are there series of other tests: a process takes so many."""
    observe.tally.take()
    observe.tally.known.clear()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """As Prometheus' own parser reads them: (name, label=value …) → number."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[(sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items())))] = sample.value
    return found


def scrape(client, token: str) -> dict[tuple[str, ...], float]:
    response = client.get("/metrics", headers=bearer(token))
    assert response.status_code == 200 and response["Content-Type"].startswith("text/plain; version=0.0.4")
    return samples(response.content.decode())


@pytest.fixture
def token(settings) -> str:
    settings.METRICS_TOKEN = TOKEN
    return TOKEN


def test_what_several_processes_count_is_one_number(redis):
    observe.TASK_MOVES.inc("", "queued", by=3)
    assert observe.flush()
    observe.tally.__init__()  # another process
    observe.TASK_MOVES.inc("", "queued", by=4)
    observe.POLICY_SECONDS.observe(0.003, "approval", "ok")
    observe.POLICY_SECONDS.observe(99.0, "approval", "ok")
    assert observe.flush()
    found = samples(exposition(counted()).decode())
    assert found["jobplatform_task_moves_total", "new=queued", "old="] == 7
    at_most = {key[2]: value for key, value in found.items() if key[0] == "jobplatform_policy_seconds_bucket"}
    assert (at_most["le=0.0025"], at_most["le=0.005"], at_most["le=30"], at_most["le=+Inf"]) == (0, 1, 1, 2)
    assert found["jobplatform_policy_seconds_count", "hook=approval", "outcome=ok"] == 2
    assert found["jobplatform_policy_seconds_sum", "hook=approval", "outcome=ok"] == pytest.approx(99.003)


def test_counts_wait_for_a_redis_that_is_away(settings, redis):
    from apps.core import redis as door

    observe.SANDBOX_RESTARTS.inc()
    there, settings.REDIS_URL = settings.REDIS_URL, "redis://127.0.0.1:1/0"
    door.reset()
    assert not observe.flush()
    settings.REDIS_URL = there
    door.reset()
    assert observe.flush()
    assert samples(exposition(counted()).decode())["jobplatform_sandbox_restarts_total",] == 1


def test_labels_that_are_not_from_a_closed_set_stop_growing(redis):
    for number in range(observe.SERIES_MAX + 50):
        observe.REPAIRS.inc(f"made up {number}")
    taken = observe.tally.take()
    assert len(taken) == observe.SERIES_MAX + 1 and taken["jobplatform_repairs_total", "other"] == 50


def test_a_submitted_task_shows_in_requests_moves_and_the_queue(client, redis, token):
    key = make_key("acme")
    make_task("waits")
    assert client.post("/api/v1/tasks?wait=0", make_entry(), "application/json", headers=bearer(key)).status_code == 201
    client.get("/no/such/path/of/anyone", headers={"Accept": "text/html"})
    observe.flush()
    found = scrape(client, token)
    assert found["jobplatform_task_moves_total", "new=queued", "old="] == 1
    assert found["jobplatform_tasks_open", "org=acme", "status=queued"] == 1
    assert found["jobplatform_queue_oldest_seconds", "org=acme"] >= 0
    assert found["jobplatform_http_requests_total", "method=POST", "route=api/v1/tasks", "status=201"] == 1
    assert found["jobplatform_http_requests_total", "method=GET", "route=unmatched", "status=404"] == 1
    assert found["jobplatform_http_request_seconds_count", "route=api/v1/tasks"] == 1


def test_an_org_sees_its_own_gauges_and_nothing_else(client, redis, token):
    make_task("mine")
    make_org("other")
    make_task("theirs", org_id="other")
    observe.TASK_MOVES.inc("", "queued")
    observe.flush()
    mine = scrape(client, make_key("acme", "operator"))
    assert {label for series in mine for label in series if label.startswith("org=")} == {"org=acme"}
    assert not [series for series in mine if series[0].startswith("jobplatform_task_moves")]
    assert {"org=acme", "org=other"} <= {label for series in scrape(client, token) for label in series}


@pytest.mark.parametrize("wrong", ["", "x", TOKEN + "x", TOKEN[:-1]])
def test_without_the_token_or_a_key_nothing_is_shown(client, redis, token, wrong):
    assert client.get("/metrics", headers=bearer(wrong)).status_code == 401
    assert client.get(f"/metrics?token={TOKEN}").status_code == 401


def test_an_empty_token_opens_nothing(client, redis, settings):
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401
    assert client.get("/metrics", headers=bearer(make_key("acme"))).status_code == 403


def test_many_orgs_do_not_become_many_series():
    from jobplatform.metrics import ORGS_MAX, _bounded

    kept = _bounded({(f"org{number:03}", "queued"): number for number in range(ORGS_MAX + 10)}, largest=False)
    assert len(kept) == ORGS_MAX + 1 and kept["_other", "queued"] == sum(range(10))
