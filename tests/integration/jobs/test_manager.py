"""Jobs as rows: submitting, depending, trying again, running out of time. On a queue in this process; time moves by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.core import clock
from apps.core.errors import Invalid
from apps.jobs import dependencies, runner, upkeep
from apps.jobs.calls import Owner
from apps.jobs.manager import HasEnded, NotEnded, OtherBody, UnknownJob
from apps.jobs.models import Job, JobDependency, JobEvent
from tests.integration.jobs import samples
from tests.integration.jobs.conftest import Desk

ADA, BO = Owner(key="user:1", actor="ada"), Owner(key="user:2", actor="bo")


def later(seconds: float):
    return clock.now() + timedelta(seconds=seconds)


def moves_of(job) -> list[str]:
    return [row.new for row in JobEvent.objects.filter(job_id=job.id).order_by("id")]


def test_a_job_is_queued_runs_once_and_is_finished(desk, queue):
    job = desk.submit(samples.double, 21)
    assert (job.status, job.attempt, job.started_at) == ("queued", 0, None)
    queue.run_all()
    job = desk.look(job)
    assert (job.status, job.result, job.attempt, job.ended_as) == ("finished", {"doubled": 42}, 1, "finished")
    assert job.created_at <= job.started_at <= job.ended_at
    assert moves_of(job) == ["started", "finished"]
    runner.run(job.id, 1)
    assert moves_of(job) == ["started", "finished"], "a doubled message does nothing"


@pytest.mark.parametrize("kind", ["object", "nan", "nul", "half"])
def test_a_result_that_is_not_json_fails_the_job_without_another_try(desk, queue, kind):
    job = desk.submit(samples.give, kind, retries=3)
    queue.run_all()
    assert (desk.look(job).status, desk.look(job).error_code) == ("failed", "result_not_json")


@pytest.mark.parametrize("target", ["os:getpid", "tests.integration.jobs.samples:no_job", "nowhere:at_all", "x:", "..:f"])
def test_only_what_is_marked_can_be_run(desk, queue, target):
    job = desk.submit(samples.double, 1)
    Job.objects.filter(pk=job.id).update(target=target)
    queue.run_all()
    assert (desk.look(job).status, desk.look(job).error_code, desk.look(job).result) == ("failed", "unknown_target", None)


def test_a_failed_attempt_is_tried_again_after_its_pause(desk, queue, tmp_path):
    job = desk.submit(samples.fail_until, str(tmp_path / "count"), 2, retries=2, retry_delays=[10, 20])
    queue.run_all()
    assert (desk.look(job).status, desk.look(job).error) == ("retrying", "ConnectionError: not yet")
    upkeep.tend_jobs(now=later(9))
    assert queue.run_all() == 0
    for at in (11, 40):
        Job.objects.filter(pk=job.id).update(not_before=clock.now())
        upkeep.tend_jobs(now=later(at))
        assert queue.run_all() == 1
    job = desk.look(job)
    assert (job.status, job.attempt, job.result, job.error) == ("finished", 3, "at the 3. attempt", "")
    assert moves_of(job) == ["started", "retrying", "started", "retrying", "started", "finished"]


def test_a_delayed_job_waits_for_its_time(desk, queue):
    job = desk.submit(samples.double, 1, delay=60)
    assert queue.run_all() == 0
    runner.run(job.id, 1)
    assert desk.look(job).status == "queued", "nor does an early message start it"
    upkeep.tend_jobs(now=later(61))
    Job.objects.filter(pk=job.id).update(not_before=clock.now())
    assert queue.run_all() == 1 and desk.look(job).status == "finished"


def test_a_job_not_started_in_time_expires(desk, queue):
    job = desk.submit(samples.double, 1, expires_in=5)
    upkeep.tend_jobs(now=later(6))
    assert (desk.look(job).status, desk.look(job).error_code) == ("expired", "not_started_in_time")
    queue.run_all()
    assert moves_of(job) == ["expired"]


def test_a_job_runs_after_those_it_waits_for(desk, queue):
    first, second = desk.submit(samples.double, 1), desk.submit(samples.double, 2)
    third = desk.submit(samples.double, 3, depends_on=[first.id, second.id])
    assert (third.status, third.waits_for) == ("queued", 2)
    runner.run(third.id, 1)
    assert desk.look(third).status == "queued"
    assert queue.run_all() == 3
    ends = {event.job_id: event.id for event in JobEvent.objects.filter(new="finished")}
    assert ends[third.id] == max(ends.values())
    fourth = desk.submit(samples.double, 4, depends_on=[first.id])
    assert queue.run_all() == 1 and desk.look(fourth).status == "finished", "one that had ended before"


def test_a_failure_fails_those_that_want_success_and_releases_those_that_do_not(desk, queue):
    first = desk.submit(samples.fail, "no")
    wants = desk.submit(samples.double, 1, depends_on=[first.id])
    after = desk.submit(samples.double, 2, depends_on=[wants.id])
    anyway = desk.submit(samples.double, 3, depends_on=[first.id], depends_on_when="always")
    queue.run_all()
    assert [desk.look(job).status for job in (first, wants, after, anyway)] == ["failed", "failed", "failed", "finished"]
    assert desk.look(wants).error_code == "dependency_failed" and first.id in desk.look(wants).error


def test_upkeep_releases_what_a_dead_process_did_not(desk, queue):
    first = desk.submit(samples.double, 1)
    waits = desk.submit(samples.double, 2, depends_on=[first.id])
    queue.run_all()
    Job.objects.filter(pk=waits.id).update(waits_for=1, status="queued", attempt=0, ended_as="")
    JobDependency.objects.update(is_open=True)
    upkeep.tend_jobs(now=clock.now())
    assert queue.run_all() == 1 and desk.look(waits).status == "finished"


def test_what_a_job_waits_for_must_be_its_owners(queue, desk):
    ada, bo = Desk(desk.manager, ADA), Desk(desk.manager, BO)
    with pytest.raises(Invalid) as refused:
        bo.submit(samples.double, 1, depends_on=[ada.submit(samples.double, 1).id, "job_none"])
    assert [problem.field for problem in refused.value.problems] == ["depends_on", "depends_on"]
    assert Job.objects.filter(owner=BO.key).count() == 0


def test_the_same_call_with_the_same_key_is_the_same_job(queue, desk):
    ada, bo = Desk(desk.manager, ADA), Desk(desk.manager, BO)
    first = ada.submit(samples.double, 1, key="k")
    assert ada.submit(samples.double, 1, key="k").id == first.id
    assert bo.submit(samples.double, 1, key="k").id != first.id
    with pytest.raises(OtherBody):
        ada.submit(samples.double, 2, key="k")
    queue.run_all()
    assert ada.submit(samples.double, 1, key="k").result == {"doubled": 2}
    upkeep.tend_jobs(now=later(501))
    assert ada.submit(samples.double, 2, key="k").id != first.id, "the key is free once the result has expired"


def test_anothers_job_is_not_there(queue, desk):
    job = Desk(desk.manager, ADA).submit(samples.double, 1)
    with pytest.raises(UnknownJob):
        desk.manager.status(job.id, BO)
    for steer in (desk.manager.cancel, desk.manager.retry):
        with pytest.raises(UnknownJob):
            steer(job.id, BO, now=clock.now())
    with pytest.raises(UnknownJob):
        desk.manager.status("job_\0", ADA)


def test_a_waiting_job_is_cancelled_at_once_and_for_good(desk, queue):
    job = desk.submit(samples.double, 1)
    for _ in range(2):
        assert desk.manager.cancel(job.id, desk.owner, now=clock.now()).status == "cancelled"
    queue.run_all()
    assert moves_of(job) == ["cancelled"]
    done = desk.submit(samples.double, 1)
    queue.run_all()
    with pytest.raises(HasEnded):
        desk.manager.cancel(done.id, desk.owner, now=clock.now())


def test_another_try_by_hand_is_a_new_job(desk, queue):
    job = desk.submit(samples.fail, "no")
    with pytest.raises(NotEnded):
        desk.manager.retry(job.id, desk.owner, now=clock.now())
    queue.run_all()
    again = desk.manager.retry(job.id, desk.owner, now=clock.now())
    queue.run_all()
    assert again.id != job.id and again.retry_of == job.id
    assert (desk.look(job).status, desk.look(again).status) == ("failed", "failed")


def test_a_result_expires_and_then_the_job_is_forgotten(desk, queue, settings):
    job = desk.submit(samples.double, 21, result_ttl=10)
    queue.run_all()
    upkeep.tend_jobs(now=later(9))
    assert desk.look(job).status == "finished"
    upkeep.tend_jobs(now=later(11))
    row = Job.objects.get(pk=job.id)
    assert (row.status, row.ended_as, row.result, row.arguments) == ("expired", "finished", None, {})
    upkeep.tend_jobs(now=later(12 + settings.JOBS_KEEP_DAYS * 86400))
    assert not Job.objects.filter(pk=job.id).exists() and not JobEvent.objects.filter(job_id=job.id).exists()


def test_a_result_without_an_end_is_kept(desk, queue):
    job = desk.submit(samples.double, 21, result_ttl=None)
    queue.run_all()
    upkeep.tend_jobs(now=later(10**8))
    assert desk.look(job).result == {"doubled": 42}


def test_a_lost_message_is_sent_again_once_its_queue_is_empty(desk, queue):
    first = desk.submit(samples.double, 1)
    upkeep.tend_jobs(now=later(11))
    assert queue.depth("default") == 1, "it is still waiting there"
    queue._waiting.clear()
    upkeep.tend_jobs(now=later(5))
    assert queue.depth("default") == 0
    upkeep.tend_jobs(now=later(60))
    assert queue.run_all() == 1 and desk.look(first).status == "finished"


def test_a_queue_that_is_away_is_told_later(desk, queue, monkeypatch):
    monkeypatch.setattr(type(queue), "send", lambda _self, _wakes: False)
    job = desk.submit(samples.double, 1)
    assert job.status == "queued"
    monkeypatch.undo()
    upkeep.tend_jobs(now=clock.now())
    assert queue.run_all() == 1 and desk.look(job).status == "finished"


def test_a_silent_worker_loses_its_lease_and_what_it_says_later_counts_no_more(desk, queue):
    job = desk.submit(samples.double, 1, retries=1, retry_delays=[0])
    stale = runner.claim(job.id, 1, worker="gone", now=clock.now())
    upkeep.tend_jobs(now=later(29))
    assert desk.look(job).status == "started"
    upkeep.tend_jobs(now=later(31))
    assert (desk.look(job).status, desk.look(job).error_code) == ("retrying", "worker_lost")
    assert not runner.finish(stale, {"late": True}, None)
    Job.objects.filter(pk=job.id).update(not_before=clock.now())
    queue._waiting.clear()
    upkeep.tend_jobs(now=later(32))
    assert queue.run_all() == 1
    assert (desk.look(job).status, desk.look(job).attempt, desk.look(job).result) == ("finished", 2, {"doubled": 2})


def test_progress_only_rises_and_its_last_step_is_kept(desk, queue):
    job = desk.submit(samples.steps, 10, 5, 250, 40)
    queue.run_all()
    job = desk.look(job)
    assert (job.status, job.progress, job.message) == ("finished", 100, "at 40")
    wrong = desk.submit(samples.steps, float("nan"))
    queue.run_all()
    assert desk.look(wrong).error == "TypeError: percent must be a number, 0…100"


def test_higher_priorities_go_first(desk, queue):
    jobs = [desk.submit(samples.double, 1, priority=priority) for priority in ("low", 0, 70, "high", -100)]
    queue.run_all()
    ended = sorted((desk.look(job) for job in jobs), key=lambda job: JobEvent.objects.get(job_id=job.id, new="finished").id)
    assert [job.priority for job in ended] == [70, 50, 0, -50, -100]


def test_nothing_is_sent_before_the_callers_transaction_commits(desk, queue):
    from django.db import transaction

    with transaction.atomic():
        job = desk.submit(samples.double, 1)
        assert queue.depth("default") == 0
    assert queue.run_all() == 1 and desk.look(job).status == "finished"


def test_one_that_ends_while_another_begins_to_wait_for_it_is_not_missed(desk, queue, monkeypatch):
    first, load = desk.submit(samples.double, 1), dependencies.load

    def load_and_meanwhile(*asked):
        found = load(*asked)
        queue.run_all()
        return found

    monkeypatch.setattr(dependencies, "load", load_and_meanwhile)
    second = desk.submit(samples.double, 3, depends_on=[first.id])
    assert desk.look(first).has_ended
    queue.run_all()
    assert desk.look(second).status == "finished"
