"""A backup made under load, restored where nothing else is left: what was open goes on, what had ended stays ended."""

from __future__ import annotations

import os
import stat
import tarfile
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from apps.core import clock
from apps.messaging.envelope import ReportKind
from apps.tasks.loader import TaskLoader
from apps.tasks.models import Task, Transition
from apps.tasks.results import ReportDesk
from apps.tasks.states import TERMINAL
from jobplatform import backup, env
from tests.factories import make_agent, make_org
from tests.integration.retention.life import dispatch, do, report, submit
from tests.services import empty_jetstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]


@pytest.fixture
def place(tmp_path, monkeypatch, settings) -> Path:
    """A data directory with a key and an upload."""
    if connections["default"].vendor != "sqlite" or "tasks" in connections:
        pytest.skip("others have tools of their own")
    data = tmp_path / "data"
    (data / "uploads").mkdir(parents=True)
    (data / "secret.key").write_text("what all is signed with")
    (data / "uploads" / "letter").write_text("dear acme")
    monkeypatch.setattr(env, "data_dir", lambda: data)
    monkeypatch.delenv("SECRET_KEY", raising=False)
    settings.STORAGES = {**settings.STORAGES, "jobs": {**settings.STORAGES["jobs"], "OPTIONS": {"location": str(data / "uploads")}}}
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", connections["default"].settings_dict["NAME"])
    return data


@pytest.fixture
def moved():
    """`moved(file)`: from now on that is the database."""
    config = connections["default"].settings_dict
    real = config["NAME"]

    def move(file: Path) -> None:
        connections["default"].close()
        config["NAME"] = str(file)

    yield move
    move(Path(real))


def names(prefix: str, number: int) -> list[str]:
    return [f"{prefix}{each}" for each in range(number)]


def ends() -> Counter[str]:
    """How often each task came to an end."""
    return Counter(Transition.objects.filter(new__in=[status.value for status in TERMINAL]).values_list("task_key", flat=True))


def test_what_was_open_goes_on_and_what_had_ended_stays_ended(place, moved, redis, nats, nats_process, tmp_path, capsys):
    from apps.dsl.scripts import register

    make_org("acme", approval_dsl_id="approval/yes", default_agent_slots=100)
    make_agent("acme", "ada")
    source = 'def approve(task):\n    return {"accepted": True, "reason": "fine"}'
    register(org_id="acme", script_id="approval/yes", hook="approval", source=source, by="tests", now=clock.now(), activate=True)
    submit("acme", *names("done", 10), *names("held", 10))
    do("acme", *names("done", 10))
    submit("acme", *names("queued", 10))
    ended = dict(Task.objects.filter(status="completed").values_list("key", "last_transition_id"))
    known = set(Task.objects.values_list("key", flat=True))
    assert len(ended) == 10 and len(known) == 30

    stop, wrote = threading.Event(), threading.Event()

    def load() -> None:
        try:
            for number in range(10_000):
                submit("acme", f"load{number}")
                wrote.set()
                if stop.is_set():
                    return
        finally:
            connections.close_all()

    busy = threading.Thread(target=load)
    busy.start()
    try:
        assert wrote.wait(30)
        file = tmp_path / "monday.tar"
        call_command("backup", str(file))
    finally:
        stop.set()
        busy.join()
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600 and "secret.key" in capsys.readouterr().out
    with pytest.raises(CommandError, match="exists"):
        call_command("backup", str(file))
    assert list(tmp_path.glob(".monday*")) == []

    restored = tmp_path / "restored"
    with tarfile.open(file) as archive:
        archive.extractall(restored, filter="data")
    assert (restored / "secret.key").read_text() == "what all is signed with"
    assert (restored / "job-files" / "letter").read_text() == "dear acme"
    moved(next(restored.glob("*.sqlite3")))
    redis.flushall()
    empty_jetstream(nats, nats_process.directory)

    assert known <= set(Task.objects.values_list("key", flat=True))
    now = clock.now()
    repair = TaskLoader().reconcile(now=now + timedelta(minutes=1))
    assert repair.queued >= 10 and repair.leases == 10
    held = list(Task.objects.filter(status="dispatched"))
    ReportDesk().apply([report(task, ReportKind.COMPLETED, seq=9, now=now, result="done all the while") for task in held], now=now)
    dispatch(now)
    rest = list(Task.objects.filter(status="dispatched"))
    ReportDesk().apply([report(task, ReportKind.COMPLETED, seq=9, now=now, result="done") for task in rest], now=now)
    assert set(Task.objects.values_list("status", flat=True)) == {"completed"}
    assert set(ends().values()) == {1} and ends().keys() >= known
    assert dict(Task.objects.filter(pk__in=ended).values_list("pk", "last_transition_id")) == ended


def test_what_is_no_file_of_ours_is_said_with_its_tool(place, settings, tmp_path, monkeypatch):
    monkeypatch.setitem(settings.DATABASES, "default", {**settings.DATABASES["default"], "ENGINE": "django.db.backends.postgresql"})
    with pytest.raises(CommandError, match="pg_dump"):
        call_command("backup", str(tmp_path / "file.tar"))
    assert "mongodump" in backup.TOOLS["django_mongodb_backend"] and not (tmp_path / "file.tar").exists()
