"""Operators look at jobs in the admin, follow one as it runs, cancel and try again there."""

from __future__ import annotations

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from prometheus_client.parser import text_string_to_metric_families

from apps.core import observe
from apps.core.observe_read import counted, exposition
from apps.jobs.calls import Owner
from apps.jobs.models import Job, JobEvent
from apps.jobs.states import JobStatus
from tests.factories import bearer, make_key, make_org
from tests.integration.jobs_surface.kit import move, submit

pytestmark = pytest.mark.django_db(transaction=True)
ADA, SAM = Owner(key="key:ada", org_id="acme", actor="key ada"), Owner(key="user:7", actor="sam")
STARTED, FINISHED, FAILED = JobStatus.STARTED, JobStatus.FINISHED, JobStatus.FAILED
JOBS = "/admin/jobs/job/"


@pytest.fixture
def boss(client):
    make_org("acme")
    client.force_login(get_user_model().objects.create_superuser("boss", password="x"))
    return client


def page(client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200, path
    return response.content.decode()


def one(job: Job, what: str = "change") -> str:
    return f"{JOBS}{quote(job.pk)}/{what}/"


def test_jobs_are_listed_filtered_and_found_and_what_users_wrote_is_text(boss):
    running = move(submit(ADA, name="<b>Sneaky</b>", queue="slow"), STARTED, progress=42.0)
    failed = move(submit(SAM, name="Reports.write"), STARTED, FAILED, error_code="timeout")
    listed = page(boss, JOBS)
    assert "&lt;b&gt;Sneaky" in listed and "<b>Sneaky" not in listed and "42%" in listed and "no org" in listed
    for query, found in {
        "queue=slow": [running], "error_code=timeout": [failed], "status__exact=failed": [failed], "backend=memory": [running, failed],
        f"q={running.pk[:12]}": [running], "q=user:7": [failed], "q=reports": [failed], "org=acme": [running], "org=acme&queue=fast": [],
    }.items():  # fmt: skip
        listed = page(boss, f"{JOBS}?{query}")
        assert [job.pk for job in (running, failed) if job.pk in listed] == [job.pk for job in found], query


def test_a_page_shows_how_far_it_is_what_happened_what_it_gave_and_its_relatives(boss):
    first = submit(ADA, name="Upload.store", webhook_url="https://hooks.example.com/done")
    second = submit(ADA, name="Query.ask", depends_on=[first.pk])
    assert "asked to stop" not in page(boss, one(first))
    Job.objects.filter(pk=move(first, STARTED).pk).update(progress=25, message="page 1 of 4", eta_s=90)
    live = page(boss, one(first, "live"))
    assert (
        "<html" not in live
        and 'data-over="no"' in live
        and "25%" in live
        and "about 90 s left" in live
        and "queued → <strong>started" in live
    )
    assert f"{quote(second.pk)}/change" in live and f"{quote(first.pk)}/change" in page(boss, one(second, "live"))
    shown = page(boss, one(move(first, FINISHED, result={"stored": "<script>"})))
    assert 'data-over="yes"' in shown and "&lt;script&gt;" in shown and "hooks.example.com" in shown and 'value="cancel"' not in shown
    failed = move(submit(ADA), STARTED, FAILED, error="No paper.", error_code="error", traceback="Traceback …\n<i>")
    shown = page(boss, one(failed))
    assert "No paper." in shown and "Traceback …\n&lt;i&gt;" in shown and 'value="retry"' in shown
    assert first.pk in page(boss, f"/admin/jobs/jobevent/?q={first.pk}")


def test_cancel_and_retry_go_the_ways_of_the_manager_and_say_who_it_was(boss):
    waiting, running, failed = submit(ADA), move(submit(SAM), STARTED), move(submit(SAM), STARTED, FAILED)
    assert boss.post(one(waiting, "steer"), {"verb": "cancel", "confirmed": "yes"})["Location"] == one(waiting)
    assert JobEvent.objects.get(job_id=waiting.pk).actor == "admin boss"
    boss.post(JOBS, {"action": "cancel", "_selected_action": [running.pk, failed.pk], "confirmed": "yes"})
    running.refresh_from_db()
    assert (running.status, running.cancel_actor) == ("started", "admin boss") and "asked to stop" in page(boss, one(running, "live"))
    response = boss.post(one(failed, "steer"), {"verb": "retry"})
    made = Job.objects.get(retry_of=failed.pk)
    assert response["Location"] == one(made) and (made.owner, made.org_id) == ("user:7", "")
    assert made.pk in page(boss, one(failed, "live"))
    assert boss.post(one(failed, "steer"), {"verb": "delete"}).status_code == 403 and boss.get(one(failed, "steer")).status_code == 403


def test_who_may_only_look_steers_nothing(client):
    job = submit(ADA)
    looker = get_user_model().objects.create_user("eve", password="x", is_staff=True)
    client.force_login(looker)
    for path in (one(job), one(job, "live"), JOBS):
        assert client.get(path).status_code == 403
    looker.user_permissions.add(Permission.objects.get(codename="view_job", content_type__app_label="jobs"))
    assert 'value="cancel"' not in page(client, one(job)) and "jp-queued" in page(client, one(job, "live"))
    assert client.post(one(job, "steer"), {"verb": "cancel"}).status_code == 403
    client.post(JOBS, {"action": "cancel", "_selected_action": [job.pk]})
    job.refresh_from_db()
    assert job.status == "queued"


def test_jobs_are_counted_by_queue_and_state_and_each_org_sees_its_own(client, redis):
    observe.tally.take()
    move(submit(ADA, queue="slow"), STARTED)
    move(submit(ADA, queue="fast"), STARTED, FINISHED)
    submit(Owner(key="key:eve", org_id="other"), queue="slow")
    scraped = client.get("/metrics", headers=bearer(make_key("acme", "operator"))).content.decode()
    assert 'jobplatform_jobs_open{org="acme",queue="slow",status="started"} 1.0' in scraped and "other" not in scraped
    observe.flush()
    found = {}
    for family in text_string_to_metric_families(exposition(counted()).decode()):
        for sample in family.samples:
            found[(sample.name.removeprefix("jobplatform_"), *sample.labels.values())] = sample.value
    assert found["job_moves_total", "slow", "queued"] == 2 and found["job_moves_total", "fast", "finished"] == 1
    assert found["job_run_seconds_count", "fast", "finished"] == 1 and found["job_wait_seconds_count", "slow"] == 1
