"""What `manage.py up` would run, without running it."""

from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings

from apps.jobs.backends.stopping import longest_seconds
from jobplatform.embedded import servers
from jobplatform.embedded.place import Place
from jobplatform.embedded.supervisor import STOP_SECONDS
from jobplatform.queues import QUEUES

PORTS = {"web": 8000, "redis": 1001, "nats": 1002, "nats-monitor": 1003, "flower": 1004}


@pytest.fixture
def plan(tmp_path: Path) -> servers.Plan:
    return servers.Plan(
        host="127.0.0.1",
        place=Place(tmp_path),
        redis_password="hush",
        workers={"dispatch": 2, "upkeep": 1, "backtests": 1},
        web_workers=1,
        web_threads=64,
        without=frozenset(),
        outside={},
        jobs_stop_seconds=servers.jobs_stop_seconds(settings.JOBS_STOP_S, settings.JOBS_GRACE_S),
        nursery=True,
        ports=PORTS,
    )


def names(plan: servers.Plan) -> list[str]:
    return [child.name for child in servers.children(plan)]


def test_servers_come_first_then_the_databases_then_those_who_use_them(plan):
    children = {child.name: child for child in servers.children(plan)}
    assert list(children)[:4] == ["redis", "nats", "nursery", "setup"]
    workers = {"dispatch-1", "dispatch-2", "upkeep-1", "webhooks-1", "backtests-1", "workflows-1", "workflows-2"}
    workers |= {"quick-jobs-1", "long-jobs-1"}
    assert set(children) == {"redis", "nats", "nursery", "setup", "flower", "web", "listener", "beat"} | workers
    for name in ("web", "dispatch-1", "dispatch-2", "upkeep-1", "webhooks-1", "backtests-1", "listener", "beat"):
        assert children[name].after == ("redis", "nats", "nursery", "setup")


def test_all_of_ours_are_forked_by_the_nursery_where_there_can_be_one(plan):
    children = servers.children(plan)
    assert {child.name for child in children if not child.preloaded} == {"redis", "nats", "nursery"}
    without = servers.children(replace(plan, nursery=False))
    assert [child.name for child in without] == [child.name for child in children if child.name != "nursery"]
    assert not [child.name for child in without if "nursery" in child.after]


def test_every_child_has_its_place_in_the_stopping_order(plan):
    ordered = {kind for stage in servers.STOP_ORDER for kind in stage}
    assert {child.kind for child in servers.children(plan)} - {"setup"} <= ordered


def test_all_stages_of_stopping_fit_into_the_twenty_seconds(plan):
    children = servers.children(plan)
    ended = 0.0
    for stage in servers.STOP_ORDER:
        began = ended
        ended = max((0.0 if child.told_first else began) + child.stop_seconds for child in children if child.kind in stage)
    assert ended <= STOP_SECONDS < 20
    assert {child.kind for child in children if child.told_first} == {"quick-jobs", "long-jobs"}


def test_workers_of_jobs_have_the_time_that_handing_back_takes(plan):
    seconds = {child.kind: child.stop_seconds for child in servers.children(plan)}
    assert min(seconds["quick-jobs"], seconds["long-jobs"]) > longest_seconds() == settings.JOBS_STOP_S + settings.JOBS_GRACE_S + 2


def test_every_queue_has_workers(plan):
    listened = {child.argv[child.argv.index("worker") + 1] for child in servers.children(plan) if "worker" in child.argv}
    assert listened == {queue.name for queue in QUEUES}


def test_parts_can_be_left_out(plan):
    others = {queue.name for queue in QUEUES} - {"dispatch"}
    assert names(replace(plan, without=frozenset({"flower", "beat", "listener"} | others))) == [
        "redis", "nats", "nursery", "setup", "web", "dispatch-1", "dispatch-2",
    ]  # fmt: skip


def test_a_server_named_by_the_environment_replaces_the_embedded_one(plan):
    outside = replace(plan, outside={"REDIS_URL": "redis://elsewhere/3", "NATS_URL": "nats://elsewhere"})
    assert not {"redis", "nats"} & set(names(outside))
    assert not {"REDIS_URL", "NATS_URL"} & set(outside.environment)
    assert outside.urls()["redis"] == "redis://elsewhere/3"
    assert outside.urls()["nats"] == "nats://elsewhere"


def test_other_variables_replace_no_server(plan):
    assert names(replace(plan, outside={"DATABASE_URL": "postgres://db/x", "CELERY_BROKER_URL": "amqp://mq"})) == names(plan)


def test_children_learn_where_the_embedded_servers_are(plan):
    assert plan.environment["REDIS_URL"] == "redis://:hush@127.0.0.1:1001/0"
    assert plan.environment["NATS_URL"] == "nats://127.0.0.1:1002"
    assert plan.environment["JOBPLATFORM_DATA"] == str(plan.place.data)


def test_no_password_stands_on_a_command_line(plan):
    assert not [child.name for child in servers.children(plan) if any("hush" in part for part in child.argv)]


def test_a_server_on_all_addresses_is_reached_on_loopback(plan):
    assert replace(plan, host="0.0.0.0").urls()["web"] == "http://127.0.0.1:8000"
    assert replace(plan, host="::1").urls()["admin"] == "http://[::1]:8000/admin/"


def test_the_embedded_redis_keeps_everything_and_talks_to_this_machine_only():
    config = servers.valkey_config(port=1001, directory=Path("/data/valkey"), password="hush").splitlines()
    for line in ("bind 127.0.0.1", "requirepass hush", "appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"):
        assert line in config
