"""A job's end reaches the URL that the job named, signed, once, whatever fails on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
import standardwebhooks
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model

from apps.core import clock
from apps.core.errors import Invalid
from apps.jobs.calls import Owner
from apps.jobs.models import Job
from apps.jobs.states import JobStatus
from apps.webhooks import derive
from apps.webhooks.book import FOR_JOBS_MAX, TooManyJobUrls, WebhookBook
from apps.webhooks.derive import Deriver
from apps.webhooks.models import Delivery, Endpoint
from apps.webhooks.order import Order
from tests.factories import NOON, bearer, make_key, make_org
from tests.integration.jobs_surface.kit import move, submit
from tests.integration.webhooks.conftest import serve
from tests.integration.webhooks.receiver import Receiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.store]

ADA = Owner(key="key:ada", org_id="acme", actor="key ada")
STARTED, FINISHED, FAILED, RETRYING, CANCELLED, EXPIRED = (JobStatus(name) for name in (
    "started", "finished", "failed", "retrying", "cancelled", "expired",
))  # fmt: skip


@pytest.fixture(autouse=True)
def nobody_listens() -> Iterator[None]:
    derive.forget()
    yield
    derive.forget()


@pytest.fixture
def receiver(settings, redis) -> Iterator[Receiver]:
    server = Receiver()
    settings.OUTBOUND_ALLOW = [server.host]
    make_org("acme", outbound_allow=[server.host])
    yield server
    server.close()


def deliver(now=NOON) -> int:
    Deriver().run(now=now)
    return sum(serve(row, now=now) for row in Endpoint.objects.all())


def told(receiver: Receiver) -> list[tuple[str, str]]:
    return [(json.loads(got.body)["type"], json.loads(got.body)["data"]["job_id"]) for got in receiver.got]


def test_the_end_of_each_job_is_told_once_signed_with_the_secret_that_rotating_shows(receiver):
    ends = {submit(ADA, now=clock.now(), webhook_url=f"{receiver.url}?order={end}"): end for end in (FINISHED, FAILED, CANCELLED, EXPIRED)}
    row = Endpoint.objects.get()
    assert (row.url, row.for_jobs, row.events) == (f"http://{receiver.host}", True, []), "one for the server, however many URLs"
    _, secret = WebhookBook(org_id="acme", by="ada", now=NOON).rotate(row.pk, timedelta(0))
    for job, end in ends.items():
        through = (STARTED, RETRYING, STARTED, end) if end in (FINISHED, FAILED) else (end,)
        move(job, *through, reason=f"it {end}", error_code="error" if end is FAILED else "")
    assert deliver() == 4 and deliver() == 0
    assert sorted(told(receiver)) == sorted((f"job.{end}", job.id) for job, end in ends.items())
    got = next(got for got in receiver.got if b"job.failed" in got.body)
    signed = standardwebhooks.Webhook(secret).sign(got.headers["webhook-id"], NOON, got.body.decode())
    assert got.headers["webhook-signature"] == signed
    data = json.loads(got.body)["data"]
    assert data | {"event_id": ""} == {
        "org_id": "acme", "job_id": data["job_id"], "name": "Reports.write", "queue": "default", "status": "failed",
        "previous_status": "started", "reason": "it failed", "error_code": "error", "attempt": 2, "retry_of": None,
        "created_at": data["created_at"], "started_at": "2026-11-22T12:00:00.000Z", "ended_at": "2026-11-22T12:00:00.000Z", "event_id": "",
    }  # fmt: skip
    assert set(Delivery.objects.values_list("job_id", "url")) == {(job.id, job.webhook_url) for job in ends}
    # A result whose time is over is no news.
    move(next(iter(ends)), EXPIRED)
    assert deliver() == 0


def test_a_job_that_ended_while_nobody_looked_is_told_all_the_same(receiver, redis):
    job = submit(ADA, now=clock.now(), webhook_url=receiver.url)
    deliver()
    move(job, STARTED, FINISHED)
    redis.flushall()
    derive.forget()
    assert deliver() == 1 and told(receiver) == [("job.finished", job.id)]
    # As if its event had been committed behind the cursor.
    Delivery.objects.all().delete()
    assert Deriver().run(now=NOON) == 0 and Deriver().look_again(now=clock.now()) == 1
    assert deliver(clock.now() + timedelta(seconds=1)) == 1 and told(receiver) == [("job.finished", job.id)] * 2


def test_the_orgs_own_endpoint_answers_for_its_url_and_one_that_subscribes_hears_of_all_jobs(receiver):
    book = WebhookBook(org_id="acme", by="ada", now=NOON - timedelta(days=3000))
    own, secret = book.create({"url": receiver.url, "events": []})
    book.create({"url": f"http://{receiver.host}/all", "events": ["job.started", "job.finished"]})
    named, plain = submit(ADA, webhook_url=receiver.url), submit(ADA)
    other = submit(Owner(key="key:eve", org_id="other"))
    assert Endpoint.objects.filter(for_jobs=True).count() == 0
    for job in (named, plain, other):
        move(job, STARTED, FINISHED)
    assert deliver() == 5
    assert sorted(told(receiver)) == sorted(
        [("job.finished", named.id), *((event, job.id) for job in (named, plain) for event in ("job.started", "job.finished"))]
    )
    mine = Delivery.objects.get(endpoint_id=own.pk)
    assert (mine.job_id, mine.url) == (named.id, "") and secret.startswith("whsec_")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "https://10.0.0.1/", "http://169.254.169.254/latest", "ftp://x.example.com/", "x"])
def test_a_url_that_may_not_be_called_is_refused_when_the_job_is_submitted_and_nothing_is_stored(receiver, url):
    with pytest.raises(Invalid) as refused:
        submit(ADA, webhook_url=url)
    assert [problem.field for problem in refused.value.problems] == ["webhook_url"]
    assert not Job.objects.exists() and not Endpoint.objects.exists()


def test_jobs_of_no_org_go_by_what_the_platforms_operator_allows(receiver):
    job = submit(Owner(key="user:7", actor="sam"), now=clock.now(), webhook_url=receiver.url)
    row = Endpoint.objects.get()
    assert row.org_id is None
    move(job, STARTED, FINISHED)
    assert deliver() == 1 and told(receiver) == [("job.finished", job.id)]
    receiver.answer = lambda _got: (410, {}, b"")
    gone = submit(Owner(key="user:7"), now=clock.now(), webhook_url=f"{receiver.url}/gone")
    move(gone, STARTED, FAILED)
    assert deliver() == 1
    row.refresh_from_db()
    assert row.enabled, "one URL of it is gone, not the server"


def test_jobs_of_an_org_name_so_many_servers_and_no_more(receiver):
    for number in range(FOR_JOBS_MAX):
        submit(ADA, webhook_url=f"https://h{number}.example.com/x")
    with pytest.raises(TooManyJobUrls):
        submit(ADA, webhook_url="https://one-more.example.com/")
    assert Job.objects.count() == FOR_JOBS_MAX
    submit(ADA, webhook_url="https://h7.example.com/another")
    book = WebhookBook(org_id="acme", by="ada", now=NOON)
    book.create({"url": "https://own.example.com/"})
    with pytest.raises(Invalid):
        book.change(Endpoint.objects.filter(for_jobs=True).first().pk, {"url": "https://elsewhere.example.com"})


def test_staff_may_disable_a_server_that_jobs_name_and_not_make_another_of_it(receiver, client):
    submit(ADA, webhook_url=receiver.url)
    row = Endpoint.objects.get()
    client.force_login(get_user_model().objects.create_superuser("boss", password="x"))
    page, form = f"/admin/webhooks/endpoint/{quote(row.pk)}/change/", {"url": row.url, "description": "theirs"}
    assert "is the server that jobs name" in client.post(page, {**form, "url": "https://elsewhere.example.com"}).content.decode()
    assert client.post(page, form).status_code == 302
    row.refresh_from_db()
    assert (row.enabled, row.events, row.description) == (False, [], "theirs")
    submit(ADA, webhook_url=receiver.url)
    assert Endpoint.objects.count() == 1


def test_news_of_a_job_rings_the_bell_when_somebody_listens(receiver, redis):
    move(submit(ADA), STARTED, FINISHED)
    assert redis.llen("jp:webhooks:bell") == 0
    job = submit(ADA, webhook_url=receiver.url)
    redis.delete("jp:webhooks:bell")
    move(job, STARTED)
    assert redis.llen("jp:webhooks:bell") == 1 and Order().due(now=clock.now()) == []


def test_an_endpoint_that_running_jobs_name_stays_until_they_have_ended(receiver, client, admin_client):
    """Nobody else would tell their ends. Once it is disabled it tells nobody anyway."""
    job = submit(ADA, now=clock.now(), webhook_url=f"{receiver.url}?order=1")
    row, book = Endpoint.objects.get(), WebhookBook(org_id="acme", by="ada", now=NOON)
    path = f"/api/v1/webhooks/{row.pk}"
    refused = client.delete(path, headers=bearer(make_key("acme", "org_admin")))
    assert (refused.status_code, refused.json()["code"]) == (409, "endpoint_awaited")
    asked = admin_client.post(f"/admin/webhooks/endpoint/{row.pk}/delete/", {"post": "yes"})
    assert b"Jobs that have not ended" in asked.content and Endpoint.objects.filter(pk=row.pk).exists()
    move(job, STARTED, FINISHED)
    assert deliver() == 1 and told(receiver) == [("job.finished", job.id)]
    book.delete(row.pk)
    submit(ADA, now=clock.now(), webhook_url=f"{receiver.url}?order=2")
    book.change(row.pk, {"enabled": False})
    book.delete(row.pk)
    assert not Endpoint.objects.exists()
