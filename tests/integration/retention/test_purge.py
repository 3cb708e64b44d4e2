"""An organization that is purged is gone from every store; its neighbour is not touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connections

from apps.core import clock
from apps.messaging.envelope import ReportKind
from apps.orgs import audit_guard, keys
from apps.orgs.audit import record
from apps.orgs.models import Change, Org, Purge, ShutKey
from apps.retention import purge
from apps.retention.owned import NOBODYS, path_to_org, tables
from apps.retention.purge import Purger
from apps.tasks.loader import TaskLoader
from apps.tasks.models import Task
from jobplatform.env import BASE_DIR
from tests.factories import bearer, make_agent, make_key, make_org
from tests.integration.retention import scan
from tests.integration.retention.life import OURS, do, submit

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]


class Died(Exception):
    pass


@pytest.fixture
def guarded(transactional_db):
    """The database refuses to lose a line of the audit trail, as it does in earnest."""
    audit_guard.install(using="default")
    yield
    audit_guard.remove()


def live(org_id: str) -> None:
    """Tasks that ended, wait, and are with an agent; rows everywhere else."""
    from apps.dsl.scripts import register

    make_org(org_id, approval_dsl_id="approval/yes", concurrency_key="payload.customer", aging_points_per_minute=1)
    make_agent(org_id, "ada")
    make_key(org_id, "agent", "ada")
    source = 'def approve(task):\n    return {"accepted": True, "reason": "fine"}'
    register(org_id=org_id, script_id="approval/yes", hook="approval", source=source, by="tests", now=clock.now(), activate=True)
    TaskLoader().reconcile(now=clock.now())
    submit(org_id, "done", "bad", "held", "held-too", task_job_submission_data={"customer": org_id})
    do(org_id, "done")
    do(org_id, "bad", kind=ReportKind.FAILED)
    submit(org_id, "waits", task_job_submission_data={"customer": org_id})
    record(org_id=org_id, kind=Change.Kind.ORG, key=org_id, old=None, new={}, by="tests", at=clock.now())


def full(org_id: str) -> None:
    make_org(org_id)
    scan.fill(org_id)


@pytest.fixture
def both(redis, guarded):
    """acme, inactive, and its neighbour globex, with a row in every table."""
    _neighbours(full)


@pytest.fixture
def alive(redis, guarded):
    """The same, with tasks on their way."""
    _neighbours(live, full)


def _neighbours(*steps) -> None:
    for org_id in ("acme", "globex"):
        for step in steps:
            step(org_id)
    Org.objects.filter(pk="acme").update(is_active=False)


def found(name: str, redis, nats_process) -> list[str]:
    """Whatever names it, in any store."""
    everywhere = [*scan.rows(), *scan.keys(redis), *scan.messages(), *scan.files(nats_process.directory / "jetstream")]
    return sorted(text for text in everywhere if name in text and not scan.platforms_line(text))


def lasting(texts: list[str]) -> list[str]:
    """Without what expires by itself, and may have meanwhile."""
    return [text for text in texts if not text.startswith(scan.EXPIRES)]


def test_every_table_is_an_orgs_or_nobodys():
    models = [model for label in OURS for model in apps.get_app_config(label).get_models() if not model._meta.proxy]
    assert {model for model in models if not path_to_org(model)} == set(NOBODYS)
    assert len(tables()) == len(set(tables())) == len(models) - len(NOBODYS)


def test_nothing_is_left_of_it_and_the_neighbour_is_as_he_was(alive, redis, nats_process, client):
    before = lasting(found("globex", redis, nats_process))
    assert len(found("acme", redis, nats_process)) > 60 and len(before) > 60
    shut = keys.revoked_on_nats()
    purge.begin("acme", by="ann", now=clock.now())
    assert Purger("acme").run(now=clock.now())
    assert found("acme", redis, nats_process) == []
    assert lasting(found("globex", redis, nats_process)) == before
    line = Change.objects.get(org_id="")
    assert (line.kind, line.key, line.by, line.new) == ("org", "acme", "ann", None)
    assert line.old["rows"]["tasks.Task"] == 5 and line.old["rows"]["orgs.Change"] >= 1
    assert Purger("acme").run(now=clock.now()), "done is done"
    assert Change.objects.filter(org_id="").count() == 1
    assert shut and keys.revoked_on_nats() == shut == set(ShutKey.objects.values_list("pk", flat=True)), "its agents stay shut out"
    assert list(get_user_model().objects.values_list("username", flat=True)) == ["person-of-globex"]

    live("acme")  # the same names again, and nothing of the old
    head = bearer(make_key("acme"))
    assert {row["task_id"] for row in client.get("/api/v1/tasks", headers=head).json()["items"]} == {
        "done", "bad", "held", "held-too", "waits",
    }  # fmt: skip
    assert client.get("/api/v1/tasks/done", headers=head).json()["attempt"] == 1


def test_a_purge_that_dies_anywhere_is_finished_by_the_next(alive, redis, nats_process, monkeypatch):
    purge.begin("acme", by="ann", now=clock.now())
    wanted = {label: number for label, number in purge.count("acme").items() if number}
    passed, deaths = [], 0

    def die_now_and_then(name: str) -> None:
        passed.append(name)
        if len(passed) % 7 == 0:
            raise Died

    monkeypatch.setattr(purge, "failpoint", die_now_and_then)
    while Purge.objects.exists():
        try:
            Purger("acme").run(now=clock.now())
        except Died:
            deaths += 1
    assert deaths > 3 and found("acme", redis, nats_process) == []
    told = Change.objects.get(org_id="").old["rows"]
    assert {label: told.get(label, 0) for label in wanted if label.startswith("orgs.")} == {
        label: number for label, number in wanted.items() if label.startswith("orgs.")
    }


def test_killed_in_the_middle_and_run_again(both, redis, nats_process, settings, tmp_path, capsys):
    if connections["default"].vendor != "sqlite" or "tasks" in connections:
        pytest.skip("the other process is given one file")
    environment = {
        "DATABASE_URL": f"sqlite:///{connections['default'].settings_dict['NAME']}", "REDIS_URL": settings.REDIS_URL,
        "NATS_URL": settings.NATS_URL, "SECRET_KEY": settings.SECRET_KEY, "JOBPLATFORM_DATA": str(tmp_path),
        "FAILPOINTS": "purge.page:kill@19", "PYTHONPATH": os.pathsep.join((str(BASE_DIR), str(BASE_DIR / "sdk"))),
    }  # fmt: skip
    command = [sys.executable, str(BASE_DIR / "manage.py"), "purge_org", "acme", "--yes"]
    killed = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
    assert killed.returncode == -9, killed.stderr
    assert Purge.objects.get().rows and Org.objects.filter(pk="acme").exists()
    with pytest.raises(purge.StillActive):
        purge.begin("globex", by="ann", now=clock.now())
    call_command("purge_org", "acme")
    assert "acme is gone" in capsys.readouterr().out
    assert found("acme", redis, nats_process) == []


def test_an_active_or_unknown_org_is_refused_and_so_is_a_wrong_name(both, monkeypatch, capsys):
    for org_id, sentence in (("globex", "make it inactive first"), ("nobody", "There is no such organization")):
        with pytest.raises(CommandError, match=sentence):
            call_command("purge_org", org_id, "--yes")
    monkeypatch.setattr("builtins.input", lambda _question: "acne")
    with pytest.raises(CommandError, match="not its id"):
        call_command("purge_org", "acme")
    call_command("purge_org", "acme", "--dry-run")
    assert "tasks.Task" in capsys.readouterr().out
    assert Task.objects.filter(org_id="acme").count() == 1 and not Purge.objects.exists()


def test_the_database_loses_a_line_of_the_trail_to_a_purge_only(both):
    from django.db.utils import DatabaseError

    with pytest.raises(DatabaseError, match=audit_guard.SENTENCE):
        Change._base_manager.filter(org_id="globex").delete()
    purge.begin("acme", by="ann", now=clock.now())
    with pytest.raises(DatabaseError, match=audit_guard.SENTENCE):
        Change._base_manager.filter(org_id="globex").delete()
    with pytest.raises(DatabaseError, match=audit_guard.SENTENCE):
        Change._base_manager.filter(org_id="acme").update(by="nobody")
    assert Change._base_manager.filter(org_id="acme").delete()[0]


def test_an_admin_types_the_name_and_it_goes_in_the_background(both, admin_client, admin_user, monkeypatch):
    sent = []
    monkeypatch.setattr("apps.retention.admin.background.send", lambda name, **more: sent.append((name, more)))
    place = "/admin/orgs/org/"
    ask = {"action": "purge", "_selected_action": "acme"}
    page = admin_client.post(place, ask).content.decode()
    assert "type the organization" in page and "Dead letters" in page and not Purge.objects.exists()
    assert "Nothing was done" in admin_client.post(place, {**ask, "typed": "acne"}).content.decode() and not Purge.objects.exists()
    assert "make it inactive first" in admin_client.post(place, {**ask, "_selected_action": "globex"}, follow=True).content.decode()
    admin_client.post(place, {**ask, "typed": "acme"})
    assert admin_user.username in Purge.objects.get().by
    assert sent == [("backtests.purge", {"org_id": "acme"})]
    admin_client.post(f"{place}acme/change/", {"name": "back again", "is_active": "on"})
    assert not Org.objects.get(pk="acme").is_active, "there is no way back"


def test_what_a_job_was_given_is_erased_with_its_org(redis, settings, tmp_path, queue):
    from django.core.files.uploadedfile import SimpleUploadedFile

    from apps.jobs import files
    from apps.jobs.manager import JobManager
    from apps.jobs.models import Job, JobDependency
    from tests.integration.jobs import samples
    from tests.integration.jobs.conftest import Desk

    settings.STORAGES = {**settings.STORAGES, "jobs": {**settings.STORAGES["jobs"], "OPTIONS": {"location": str(tmp_path)}}}
    make_org("acme")
    kept = files.keep([("letter", SimpleUploadedFile("letter.txt", b"dear acme"))])
    desk = Desk(JobManager(queue))
    first, second = desk.submit(samples.double, 1), desk.submit(samples.double, 2)
    Job.objects.filter(pk=first.id).update(org_id="acme", request={"files": [ref.json() for ref in kept]})
    JobDependency.objects.create(job_id=first.id, on_id="job_x", when="success")
    assert len(list(Path(tmp_path).iterdir())) == 1
    Org.objects.update(is_active=False)
    purge.begin("acme", by="ann", now=clock.now())
    Purger("acme").run(now=clock.now())
    assert list(Path(tmp_path).iterdir()) == [] and list(Job.objects.values_list("pk", flat=True)) == [second.id]
    assert not JobDependency.objects.exists()
