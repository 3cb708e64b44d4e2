"""What a job cannot be made to do: be guessed, be something else, tell what it was given, go back."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from apps.jobs import moves, runner
from apps.jobs.calls import JobCall, Owner
from apps.jobs.manager import JobManager
from apps.jobs.models import Job, JobEvent
from apps.jobs.moves import Step
from apps.jobs.options import JobOptions
from apps.jobs.states import JOB_STATES, JobStatus
from tests.factories import NOON, bearer, make_key
from tests.integration.jobs_surface.kit import IDLE, move, submit

pytestmark = pytest.mark.django_db(transaction=True)
ADA = Owner(key="key:ada", org_id="acme", actor="key ada")


@pytest.mark.parametrize(
    "target",
    ["os:system", "subprocess:run", "builtins:eval", "pathlib:Path.touch", "apps.jobs.upkeep:purge", "apps.jobs.manager:JobManager.cancel",
     "nowhere:x", "os", ":", "", "..:x", "os:path.join", "apps.jobs.mixin:JobManagerMixin.get"],
)  # fmt: skip
def test_neither_a_forged_row_nor_a_forged_message_calls_what_is_not_marked(target, tmp_path):
    mark = tmp_path / "called"
    job = submit(ADA, target="x:y", retries=3)
    Job.objects.filter(pk=job.pk).update(target=target, arguments={"args": [f"touch {mark}"], "kwargs": {}})
    runner.run(job.pk, 1, worker="tests")
    job.refresh_from_db()
    assert (job.status, job.error_code, job.attempt) == ("failed", "unknown_target", 1), job.traceback
    assert not mark.exists() and not Path(f"touch {mark}").exists()
    runner.run("job_" + "0" * 32, 1, worker="tests")
    runner.run(job.pk, 2, worker="tests")
    assert Job.objects.get().attempt == 1


def test_ids_are_128_random_bits_and_what_was_asked_is_not_told(client):
    key = make_key("acme", "operator")
    ids = {submit(ADA).id for _ in range(50)}
    assert len(ids) == 50 and all(re.fullmatch(r"job_[0-9a-f]{32}", each) for each in ids)
    call = JobCall(target="x:y", request={"data": {"password": "canary-in-the-body"}}, args=["canary-in-the-arguments"])
    made = JobManager(IDLE).enqueue(call, JobOptions(webhook_url=""), ADA, now=NOON)
    for path in ("", f"/{made.job.id}", f"/{made.job.id}/events"):
        answer = client.get(f"/api/v1/jobs{path}", headers=bearer(key))
        assert answer.status_code == 200 and b"canary" not in answer.content, path
    assert b"canary" not in json.dumps(list(JobEvent.objects.values()), default=str).encode()


def test_states_move_along_the_table_only_and_whoever_comes_late_changes_nothing():
    through = {JobStatus.STARTED: (), JobStatus.RETRYING: (JobStatus.STARTED,), JobStatus.FINISHED: (JobStatus.STARTED,)}
    for old, new in itertools.product(JobStatus, repeat=2):
        job = submit(ADA)
        if old is not JobStatus.QUEUED:
            job = move(job, *through.get(old, ()), old)
        if JOB_STATES.allows(old, new):
            late = Step(job=Job.objects.get(pk=job.pk), end=new)
            assert moves.move(Step(job=job, end=new), now=NOON) and not moves.move(late, now=NOON)
        else:
            with pytest.raises(ValueError, match="does not move"):
                moves.move(Step(job=job, end=new), now=NOON)
    job = move(submit(ADA), JobStatus.STARTED)
    old = Job.objects.get(pk=job.pk)
    move(job, JobStatus.RETRYING, JobStatus.STARTED)
    assert not moves.move(Step(job=old, end=JobStatus.FINISHED, fields={"result": "late"}), now=NOON)
    assert (Job.objects.get(pk=job.pk).status, Job.objects.get(pk=job.pk).result) == ("started", None)
