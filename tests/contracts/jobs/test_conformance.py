"""What a job promises, whatever carries it: the same sentences on Celery, RQ, Dramatiq and in memory, with real workers."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import orjson
import pytest
from asgiref.sync import async_to_sync
from django.test import RequestFactory

from apps.core import clock, observe
from apps.core import redis as door
from apps.jobs import PlainRequest, runner, sending, upkeep
from apps.jobs.backends.base import Wake
from apps.jobs.calls import ANYBODY, Owner
from apps.jobs.manager import OtherBody, UnknownJob
from apps.jobs.models import Job
from apps.jobs.states import JobStatus
from tests.contracts.jobs import carriers, targets, views, views_fastapi
from tests.contracts.jobs.carriers import LEASE_S, OURS, THEIRS, UNSERVED
from tests.factories import bearer, make_key
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
WORKERS = [OURS, THEIRS]


def test_a_job_is_queued_started_and_finished_with_what_its_method_gave(carrier):
    ids = [carrier.start("double", 21, queue=queue) for queue in WORKERS]
    ids.append(carrier.start("double_slowly", 4))
    ids.append(carrier.start("echo", {"a": [1, None]}, 2, kwargs={"b": "☃"}))
    ids.append(carrier.start("rich"))
    doubled, too, slowly, echoed, rich = carrier.all_ended(ids)
    assert [view.error for view in (doubled, too, slowly, echoed, rich)] == [""] * 5
    assert {view.status for view in (doubled, too, slowly, echoed, rich)} == {JobStatus.FINISHED}
    assert doubled.result == too.result == {"doubled": 42}
    assert (slowly.result, echoed.result) == (8, [{"a": [1, None]}, 2, {"b": "☃"}])
    assert rich.result["when"] == "2026-01-02T03:04:05+00:00"
    assert (rich.result["price"], rich.result["set"], rich.result["tuple"]) == ("1.50", ["a", "b"], [1, 2])
    assert (rich.result["text"], rich.result["nothing"], len(rich.result["long"])) == ("naïve ☃ \U0001f600", None, 100_000)
    assert carrier.moves(doubled.id) == ["started", "finished"]
    assert doubled.created_at <= doubled.started_at <= doubled.ended_at
    assert doubled.worker and doubled.attempt == 1


def test_the_method_of_a_view_runs_and_answers_inline(carrier, settings):
    settings.JOBS_BACKEND, key = carrier.name, make_key()
    answer = views.Drf.as_view()(RequestFactory().post("/drf", '{"a": 1}', content_type="application/json", headers=bearer(key)))
    assert (answer.status_code, answer.data) == (201, {"drf": {"a": 1}, "key": key.split("_")[1]})
    assert Job.objects.get().backend == carrier.name


@pytest.mark.parametrize("carrier", ["celery"], indirect=True)
def test_methods_of_other_frameworks_run_too(carrier):
    in_django = views.Plain.as_view()(RequestFactory().post("/plain", '{"a": 1}', content_type="application/json"))
    assert (in_django.status_code, orjson.loads(in_django.content)) == (200, {"django": {"a": 1}})
    assert views.Free().double(21) == 42

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=views_fastapi.app), base_url="http://test") as client:
            return await client.post("/fast", json={"a": 1})

    assert asyncio.run(ask()).json() == {"fastapi": {"a": 1}}
    assert set(Job.objects.values_list("status", "backend")) == {("finished", carrier.name)}


def test_what_goes_wrong_is_said_in_one_sentence_and_never_undone(carrier):
    ids = [carrier.start(function) for function in ("fail", "unspeakable", "leave", "not_a_job", "nowhere")]
    views = carrier.all_ended(ids)
    assert [view.status for view in views] == [JobStatus.FAILED] * 5
    failed, unspeakable, left, unmarked, missing = views
    assert (failed.error_code, failed.error) == ("error", "ValueError: no such luck")
    assert unspeakable.error_code == "result_not_json" and "JSON" in unspeakable.error
    assert left.error
    assert unmarked.error_code == missing.error_code == "unknown_target"
    assert not door.client().exists(targets.told("never"))
    assert "ValueError" in Job.objects.get(pk=failed.id).traceback
    assert carrier.moves(failed.id) == ["started", "failed"]


def test_many_jobs_at_once_each_run_once(carrier):
    ids = [carrier.start("count", f"{carrier.name}-many-{number}", queue=WORKERS[number % 2]) for number in range(16)]
    assert [view.result for view in carrier.all_ended(ids)] == [1] * 16


def test_those_of_higher_priority_do_not_wait_for_the_others(carrier):
    name = f"{carrier.name}-order"
    holders = [carrier.start("hold", f"{name}-{number}", queue=THEIRS) for number in range(1 if carrier.has_processes else 3)]
    for number, _ in enumerate(holders):
        targets.hear(f"{name}-{number}:runs")
    low, normal, high = (carrier.start("echo", priority=priority, queue=THEIRS) for priority in ("low", "normal", "high"))
    if carrier.name == "dramatiq":
        # It orders what it has fetched.
        wait_until(lambda: carrier.manager.backend.depth(THEIRS) == 0, what="Dramatiq has fetched them")
    targets.tell(f"{name}-0:go", "on")
    carrier.all_ended([low, normal, high])
    for number, _ in enumerate(holders):
        targets.tell(f"{name}-{number}:go", "on")
    carrier.all_ended(holders)
    assert carrier.started_at(high) <= carrier.started_at(normal) <= carrier.started_at(low)


def test_a_job_waits_for_others_and_for_their_success_if_it_says_so(carrier):
    name = f"{carrier.name}-first"
    good, bad = carrier.start("hold", name), carrier.start("fail")
    after_good = carrier.start("echo", "after", depends_on=[good])
    after_bad = carrier.start("echo", depends_on=[bad])
    whatever = carrier.start("echo", "whatever", depends_on=[good, bad], depends_on_when="always")
    both = carrier.start("echo", depends_on=[good, bad])
    targets.hear(f"{name}:runs")
    assert carrier.ended(after_bad).error_code == carrier.ended(both).error_code == "dependency_failed"
    assert {carrier.look(job_id).status for job_id in (after_good, whatever)} == {JobStatus.QUEUED}
    targets.tell(f"{name}:go", "on")
    assert [view.result for view in carrier.all_ended([after_good, whatever])] == ["after", "whatever"]
    assert carrier.look(good).ended_at <= carrier.started_at(after_good)


def test_the_pipeline_of_the_specification_on_the_queue_that_its_user_holds(carrier):
    """Upload, vectorize, query; `self.job_manager` is a Celery app, an rq.Queue, a Dramatiq broker."""
    view = targets.Documents(carrier.held())
    assert {name: options["queue"] for name, options in view.get_async_methods().items()} == {
        "upload_documents": "default", "vectorize_documents": "fast", "query": "default",
    }  # fmt: skip
    assert targets.Documents.upload_documents.__name__ == "upload_documents"
    answer = view.upload_documents(PlainRequest(data={"documents": ["the cat sat", "a dog ran", "the dog sat"]}))
    uploaded = answer["job_id"]
    assert (answer["success"], answer["status"]) == (True, "enqueued")
    with view.job_options(depends_on=[uploaded]):
        vectorized = async_to_sync(view.vectorize_documents)(PlainRequest(data={"upload": uploaded}))["job_id"]
    with view.job_options(depends_on=[vectorized]):
        queried = view.query(PlainRequest(data={"vectors": vectorized, "word": "dog"}))["job_id"]
    assert carrier.ended(queried).error == "", [carrier.look(each).error for each in (uploaded, vectorized)]
    said = view._handle_job_status_request(queried)
    assert (said["success"], said["status"], said["result"]) == (True, "finished", {"sources": ["a dog ran", "the dog sat"]})
    row = carrier.look(vectorized)
    assert (row.backend, row.priority, row.progress, row.message) == (carrier.name, 50, 50, "half of it")


def test_a_task_of_django_tasks_runs_on_its_workers(carrier, settings):
    settings.JOBS_BACKEND = carrier.name
    from tests.contracts.jobs.targets_tasks import count_words

    result = count_words.enqueue("to be or not to be")
    carrier.ended(result.id)
    result.refresh()
    assert result.return_value == [1, 6], result.errors


def test_a_message_carries_the_id_of_a_job_and_nothing_of_it(carrier):
    job_id = carrier.start("echo", "classified", queue=UNSERVED, priority="low", delay=None if carrier.has_processes else 3600)
    if carrier.has_processes:
        message = b" ".join(value for value in carriers.everything(door.raw()) if job_id.encode() in value)
        assert b"jobs.run" in message and b"classified" not in message
        assert carrier.manager.backend.depth(UNSERVED) == 1
    carrier.manager.cancel(job_id, ANYBODY, now=clock.now())


def test_a_forged_message_calls_nothing_and_stops_nobody(carrier):
    job_id = carrier.start("echo", "mine", delay=3600)
    wakes = [Wake(job_id=job_id, attempt=attempt, queue=OURS) for attempt in (0, 1, 2, -1)]
    assert carrier.manager.backend.send([*wakes, Wake(job_id="job_of_nobody", attempt=1, queue=OURS)])
    carriers.forge(carrier)
    after = [carrier.start("double", number, queue=queue) for number in range(4) for queue in WORKERS]
    assert carrier.all_ended(after)[-1].result == {"doubled": 6}
    assert all(worker.server.alive for worker in carrier.workers.values())
    assert not door.client().exists(targets.told("never"))
    assert carrier.moves(job_id) == []
    carrier.manager.cancel(job_id, ANYBODY, now=clock.now())


def test_a_delayed_job_starts_at_its_time_and_one_that_nobody_took_in_time_expires(carrier):
    soon, late = carrier.start("echo", delay=0.2), carrier.start("echo", delay=3600)
    stale = carrier.start("echo", expires_in=60, queue=UNSERVED) if carrier.has_processes else None
    view = carrier.ended(soon, tend=True)
    assert view.started_at >= view.created_at + timedelta(seconds=0.15)
    assert carrier.look(late).status == JobStatus.QUEUED
    carrier.manager.cancel(late, ANYBODY, now=clock.now())
    if stale:
        upkeep.tend_jobs(now=clock.now() + timedelta(seconds=61))
        assert (carrier.look(stale).status, carrier.look(stale).error_code) == (JobStatus.EXPIRED, "not_started_in_time")


def test_a_failed_attempt_is_followed_by_others_after_their_pauses(carrier):
    name = f"{carrier.name}-tries"
    third = carrier.start("fail_until", name, 3, retries=2, retry_delays=[0.01, 0.2])
    never = carrier.start("fail", retries=1, retry_backoff={"initial_s": 0.01})
    view = carrier.ended(third, tend=True)
    assert (view.status, view.result, view.attempt) == (JobStatus.FINISHED, 3, 3)
    assert carrier.moves(third) == ["started", "retrying", "started", "retrying", "started", "finished"]
    assert view.started_at >= view.created_at + timedelta(seconds=0.2)
    failed = carrier.ended(never, tend=True)
    assert (failed.status, failed.attempt, failed.error) == (JobStatus.FAILED, 2, "ValueError: no such luck")


def test_a_cancelled_job_never_starts_and_a_running_one_ends_soon(carrier):
    name = f"{carrier.name}-stop"
    waiting = carrier.start("not_a_job", queue=UNSERVED, delay=3600)
    running = [carrier.start(function, f"{name}-{function}") for function in ("spin", "step_on")]
    for function in ("spin", "step_on"):
        targets.hear(f"{name}-{function}:runs")
    for job_id in (waiting, *running):
        carrier.manager.cancel(job_id, ANYBODY, now=clock.now())
    assert carrier.look(waiting).status == JobStatus.CANCELLED
    assert [view.status for view in carrier.all_ended(running)] == [JobStatus.CANCELLED] * 2
    assert carrier.moves(waiting) == ["cancelled"]


def test_a_job_that_takes_too_long_fails_and_may_try_again(carrier):
    name = f"{carrier.name}-slow"
    slow = carrier.start("spin", f"{name}-1", timeout=0.2)
    again = carrier.start("spin", f"{name}-2", timeout=0.2, retries=1, retry_delays=[0], queue=THEIRS)
    first, second = carrier.ended(slow), carrier.ended(again, tend=True)
    assert (first.status, first.error_code, first.attempt) == (JobStatus.FAILED, "timeout", 1)
    assert (second.status, second.error_code, second.attempt) == (JobStatus.FAILED, "timeout", 2)
    assert "0.2 s" in first.error


def test_a_job_that_heeds_nothing_is_ended_by_force_and_the_next_one_runs(carrier):
    if not carrier.has_processes:
        pytest.skip("its process is this one")
    ids = [carrier.start("deaf", f"{carrier.name}-deaf-{number}", timeout=0.2) for number in range(2)]
    for view in carrier.all_ended(ids):
        assert (view.status, view.error_code) == (JobStatus.FAILED, "timeout")
    assert carrier.ended(carrier.start("double", 4)).result == {"doubled": 8}


def test_a_job_whose_process_dies_fails_at_once_or_is_tried_again(carrier):
    if not carrier.has_processes:
        pytest.skip("its process is this one")
    name = f"{carrier.name}-dead"
    dead, reborn = carrier.start("die", f"{name}-1"), carrier.start("die", f"{name}-2", retries=1, retry_delays=[0])
    first = carrier.ended(dead)
    assert (first.status, first.error_code, first.error) == (JobStatus.FAILED, "worker_lost", "The worker of the job died.")
    second = carrier.ended(reborn, tend=True)
    assert (second.status, second.result, second.attempt) == (JobStatus.FINISHED, 2, 2)


def test_a_lost_message_is_sent_again(carrier, monkeypatch):
    with monkeypatch.context() as lossy:
        lossy.setattr(carrier.manager.backend, "send", lambda wakes: True, raising=False)
        job_id = carrier.start("double", 2)
    upkeep.tend_jobs(now=clock.now() + sending.LOOK_AFTER)
    assert carrier.ended(job_id).result == {"doubled": 4}


def test_more_memory_than_allowed_ends_the_job_and_nobody_else(carrier):
    if not carrier.has_processes:
        pytest.skip("its process is this one")
    hungry = carrier.ended(carrier.start("eat", 600, memory_mb=200))
    assert (hungry.status, hungry.error_code) == (JobStatus.FAILED, "out_of_memory")
    assert carrier.ended(carrier.start("eat", 1)).status == JobStatus.FINISHED


def test_the_same_key_is_the_same_job(carrier):
    key, ada, bo = f"{carrier.name}-once", Owner(key="user:1"), Owner(key="user:2")
    first, again = (carrier.start("count", key, owner=ada, unique_key=key) for _ in range(2))
    other = carrier.start("count", key, owner=bo, unique_key=key)
    assert first == again != other
    with pytest.raises(OtherBody):
        carrier.start("count", "another", owner=ada, unique_key=key)
    for job_id in (first, other):
        wait_until(lambda job_id=job_id: Job.objects.get(pk=job_id).status == JobStatus.FINISHED, what="it is done")
    assert sorted(Job.objects.filter(pk__in=[first, other]).values_list("result", flat=True)) == [1, 2]
    with pytest.raises(UnknownJob):
        carrier.manager.status(first, bo)


def test_a_result_is_kept_for_its_time_and_then_erased(carrier):
    kept, short = carrier.start("double", 1, result_ttl=3600), carrier.start("double", 2, result_ttl=5)
    carrier.all_ended([kept, short])
    upkeep.tend_jobs(now=clock.now() + timedelta(seconds=6))
    assert (carrier.look(kept).status, carrier.look(kept).result) == (JobStatus.FINISHED, {"doubled": 2})
    assert (carrier.look(short).status, carrier.look(short).result) == (JobStatus.EXPIRED, None)


def test_what_workers_do_is_counted(carrier):
    carrier.all_ended([carrier.start("double", 21, queue=queue) for queue in WORKERS])

    def counted() -> bool:
        observe.flush()  # in memory the worker is this process
        series = {tuple(name.split(observe.SEPARATOR)) for name in door.client().hkeys(observe.key())}
        return {(observe.JOB_MOVES.name, queue, "finished") for queue in WORKERS} <= series

    wait_until(counted)


def test_progress_is_told_while_it_is_made_and_never_goes_back(carrier):
    name, seen = f"{carrier.name}-steps", []
    job_id = carrier.start("steps", [10, 50, 30, 100], name)
    for _ in range(4):
        targets.hear(f"{name}:told")
        least = [10, 50, 50, 100][len(seen)]
        seen.append(wait_until(lambda least=least: (at := carrier.look(job_id).progress or 0) >= least and at, what="the progress is seen"))
        targets.tell(f"{name}:seen")
    view = carrier.ended(job_id)
    assert seen == [10, 50, 50, 100]
    assert (view.progress, view.message) == (100, "at 100")


def test_a_job_whose_whole_worker_is_killed_is_tried_again_when_its_lease_has_lapsed(carrier):
    """The last one: nobody works off that queue any more."""
    if not carrier.has_processes:
        pytest.skip("its process is this one")
    name = f"{carrier.name}-killed"
    held = carrier.start("hold", name, queue=THEIRS, retries=1, retry_delays=[0])
    targets.hear(f"{name}:runs")
    carrier.workers[THEIRS].kill()
    upkeep.tend_jobs(now=clock.now())
    assert carrier.look(held).status == JobStatus.STARTED
    upkeep.tend_jobs(now=clock.now() + timedelta(seconds=LEASE_S + 1))
    assert (carrier.look(held).status, carrier.look(held).error_code) == (JobStatus.RETRYING, "worker_lost")
    upkeep.tend_jobs(now=clock.now() + timedelta(seconds=LEASE_S + 2))
    assert carrier.manager.backend.depth(THEIRS) == 1


def test_a_worker_that_is_told_to_stop_hands_back_what_it_runs(carrier):
    """Now nobody works off the other queue either. One method ends when it is told; the other hears nothing, and has no `retries`."""
    if not carrier.has_processes:
        pytest.skip("its process is this one; see tests/integration/jobs/test_stopping.py")
    name, server = f"{carrier.name}-told", carrier.workers[OURS].server
    safe, once = carrier.start("hold", f"{name}-1", retries=1), carrier.start("deaf", f"{name}-2")
    for number in (1, 2):
        targets.hear(f"{name}-{number}:runs")
    server.process.terminate()
    assert server.process.wait(60) == 0, server.output()
    left, ended = carrier.look(safe), carrier.look(once)
    assert (left.status, left.error_code, left.attempt) == (JobStatus.RETRYING, "worker_stopped", 1), server.output()
    assert (ended.status, ended.error_code, ended.attempt) == (JobStatus.FAILED, "worker_stopped", 1), server.output()
    assert carrier.manager.backend.depth(OURS) == 1  # whoever listens there next begins it; upkeep has no part in this
    targets.tell(f"{name}-1:go", "on")
    runner.run(safe, 2, worker="another")
    assert (carrier.look(safe).status, carrier.moves(safe)) == (JobStatus.FINISHED, ["started", "retrying", "started", "finished"])
