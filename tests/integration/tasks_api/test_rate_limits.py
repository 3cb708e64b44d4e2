"""Rate limits at intake: so many new tasks a minute, for an org and for each of its keys, and so many open at a time."""

from __future__ import annotations

from datetime import timedelta

import orjson
import pytest
from django.test import Client

from apps.core.auth import Principal
from apps.orgs.config_store import OrgConfig
from apps.orgs.models import ApiKey
from apps.tasks import limits
from apps.tasks.intake import TaskIntake
from apps.tasks.models import Task, Transition
from apps.tasks.parser import InitialJobParser
from tests.factories import NOON, bearer, make_entry, make_key, make_org, make_task
from tests.threads import at_once

PATH = "/api/v1/tasks"
SAM = Principal(org_id="acme", role="submitter", subject_id="sam", key_id="k1", name="tests")
TIM = Principal(org_id="acme", role="submitter", subject_id="tim", key_id="k2", name="tests")


def granted(wanted: int, config: OrgConfig, *, after: float = 0, who: Principal = SAM) -> int:
    return limits.admit(wanted, who, config, now=NOON + timedelta(seconds=after)).granted


# ---- the buckets ------------------------------------------------------------------------------------------


def test_a_burst_comes_at_once_and_then_one_token_after_the_other(redis):
    config = OrgConfig(rate_limit_per_minute=60, rate_limit_burst=3)
    assert [granted(1, config) for _ in range(4)] == [1, 1, 1, 0]
    assert granted(1, config, after=0.999) == 0
    assert granted(2, config, after=1) == 1
    assert granted(5, config, after=100) == 3


def test_one_request_takes_as_many_tokens_as_there_are_and_says_when_the_others_come(redis):
    config = OrgConfig(rate_limit_per_minute=60, rate_limit_burst=4)
    admission = limits.admit(10, SAM, config, now=NOON)
    assert admission.granted == 4
    assert [admission.refusal(place).facts["retry_after_seconds"] for place in (0, 1, 2, 3, 9)] == [1, 2, 3, 4, 4]
    assert admission.headers == {"RateLimit-Policy": '"org";q=4;w=4', "RateLimit": '"org";r=0;t=4'}


def test_each_key_has_its_own_bucket_within_the_orgs(redis):
    config = OrgConfig(rate_limit_per_minute=60, rate_limit_burst=5, key_rate_limit_per_minute=3)
    assert (granted(9, config), granted(9, config, who=TIM), granted(1, config, who=TIM)) == (3, 2, 0)


def test_a_keys_own_limit_stands_for_the_orgs_for_keys(redis):
    big = Principal(org_id="acme", role="submitter", subject_id="big", key_id="k3", name="", rate_limit_per_minute=600, rate_limit_burst=50)
    assert granted(99, OrgConfig(key_rate_limit_per_minute=3), who=big) == 50


def test_orgs_do_not_share_a_bucket_and_the_platform_itself_has_none(redis):
    config = OrgConfig(rate_limit_per_minute=1)
    other = Principal(org_id="umbrella", role="submitter", subject_id="sam", key_id="k1", name="tests")
    own = Principal(org_id="acme", role="submitter", subject_id="", key_id="", name="a schedule")
    assert (granted(2, config), granted(2, config, who=other), granted(2, config, who=own)) == (1, 1, 2)


def test_a_bucket_is_forgotten_once_it_is_full_again(redis):
    granted(5, OrgConfig(rate_limit_per_minute=60))
    assert 0 < redis.pttl("jp:rate:acme") <= 5000


def test_a_clock_that_jumps_back_takes_no_more_than_a_burst(redis):
    config = OrgConfig(rate_limit_per_minute=60, rate_limit_burst=2)
    assert granted(2, config) == 2
    assert granted(2, config, after=-3600) == 0


def test_without_limits_nobody_is_asked(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert granted(10**6, OrgConfig()) == 10**6


def test_with_redis_away_nothing_is_limited_and_it_is_logged(redis, valkey, caplog):
    valkey.kill()
    try:
        assert granted(7, OrgConfig(rate_limit_per_minute=1)) == 7
    finally:
        valkey.start()
    assert "rate.not_limited" in caplog.text


# ---- at the door ------------------------------------------------------------------------------------------


@pytest.fixture
def slow(acme):
    """Two new tasks a minute."""
    return make_org("acme", rate_limit_per_minute=2)


def test_what_is_too_much_is_429_and_stored_nowhere(slow, submitter):
    first, second = (submitter.post(PATH, make_entry(task_id=name)) for name in ("a", "b"))
    assert (first.status_code, second.status_code) == (201, 201)
    assert (first["RateLimit"], second["RateLimit"]) == ('"org";r=1;t=30', '"org";r=0;t=60')
    third = submitter.post(PATH, make_entry(task_id="c"))
    body = third.json()
    assert (third.status_code, body["code"], body["title"]) == (429, "rate_limited", "Too many tasks a minute.")
    assert 29 <= int(third["Retry-After"]) <= 31 and body["retry_after_seconds"] == int(third["Retry-After"])
    assert third["RateLimit"].startswith('"org";r=0') and third["RateLimit-Policy"] == '"org";q=2;w=60'
    assert set(Task.objects.values_list("task_id", flat=True)) == {"a", "b"} and Transition.objects.count() == 2


def test_the_specs_path_is_limited_in_its_own_shape(slow, submitter):
    said = [submitter.post("/internal/process-task?wait=0", {"type": "task", "data": make_entry(task_id=name)}) for name in ("a", "b", "c")]
    assert [response.status_code for response in said] == [202, 202, 429]
    assert said[2].json()["error"] and "Retry-After" in said[2] and "RateLimit" in said[0]


def test_a_repeat_costs_nothing(slow, submitter):
    entry = make_entry(task_id="a")
    assert [submitter.post(PATH, entry).status_code for _ in range(5)] == [201, 200, 200, 200, 200]
    assert submitter.post(PATH, make_entry(task_id="b")).status_code == 201


def test_lines_of_a_bulk_beyond_the_limit_are_answered_each_and_stop_nobody(slow, submitter):
    *verdicts, last = submitter.bulk(*(make_entry(task_id=f"t{n}") for n in range(4)), make_entry(task_id="t0"), b"no json")
    assert [verdict["status"] for verdict in verdicts] == ["queued", "queued", "invalid", "invalid", "queued", "invalid"]
    assert [verdict.get("code") for verdict in verdicts[2:4]] == ["rate_limited"] * 2
    assert [verdict["retry_after_seconds"] for verdict in verdicts[2:4]] == [30, 60]
    assert last["summary"]["accepted"] == 3 and Task.objects.count() == 2


def test_a_key_of_its_own_limit(acme):
    entry = make_entry()
    key = make_key("acme")
    ApiKey.objects.update(rate_limit_per_minute=1)
    client = Client()

    def post(task_id: str) -> int:
        body = orjson.dumps({**entry, "task_id": task_id})
        return client.post(PATH, body, content_type="application/json", headers=bearer(key)).status_code

    assert [post(name) for name in ("a", "b")] == [201, 429]


@pytest.mark.store
def test_no_more_tasks_than_the_org_may_have_open(acme, submitter):
    make_org("acme", max_open_tasks=3)
    make_task("old")
    make_task("theirs", org_id="umbrella")
    said = [submitter.post(PATH, make_entry(task_id=f"t{n}")) for n in range(3)]
    assert [response.status_code for response in said] == [201, 201, 429]
    assert said[2].json()["code"] == "too_many_open_tasks" and said[2]["Retry-After"] == "5"
    assert Task.objects.filter(org_id="acme").count() == 3


@pytest.mark.store
def test_room_comes_back_when_tasks_end(acme, redis, submitter):
    make_org("acme", max_open_tasks=1)
    submitter.post(PATH, make_entry(task_id="a"))
    assert submitter.post(PATH, make_entry(task_id="b")).status_code == 429
    submitter.post(f"{PATH}/a/cancel")
    redis.delete("jp:open:acme")  # as after the two seconds for which a count is believed
    assert submitter.post(PATH, make_entry(task_id="b")).status_code == 201


def test_fifty_at_once_take_no_more_than_there_is(shared_acme, redis):
    make_org("acme", rate_limit_per_minute=10)
    entries = [InitialJobParser().parse(make_entry(task_id=f"t{n}")) for n in range(50)]
    verdicts = at_once(50, lambda index: TaskIntake().submit(entries[index], SAM, now=NOON))
    assert sum(verdict.error is None for verdict in verdicts) == 10 == Task.objects.count()
