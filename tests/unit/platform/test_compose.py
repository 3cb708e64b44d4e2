"""The files for real servers, checked without a container engine."""

import re
from pathlib import Path

import pytest
import yaml

from jobplatform.env import BASE_DIR, VARIABLES
from jobplatform.queues import QUEUES

COMPOSE = yaml.safe_load((BASE_DIR / "docker" / "compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "jobplatform"}


def words(service: dict) -> list[str]:
    return list(map(str, service.get("command", [])))


def test_every_part_of_the_platform_has_a_service():
    servers = {"postgres", "mongo-1", "mongo-2", "mongo-3", "mongo-set", "redis", "nats-1", "nats-2", "nats-3"}
    assert set(SERVICES) == servers | {"nats-config", "setup", "web", "beat", "listener", "flower"} | {queue.name for queue in QUEUES}


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_every_queue_has_workers_of_its_own(queue):
    command = words(SERVICES[queue.name])
    assert command[command.index("worker") + 1] == queue.name


def test_the_platform_is_told_only_what_it_listens_to():
    known = {variable.name for variable in VARIABLES} | {"FLOWER_BASIC_AUTH"}
    for name, service in OURS.items():
        assert set(service["environment"]) <= known, name


def test_every_process_uses_the_servers_of_this_file():
    for name in {*(queue.name for queue in QUEUES), "setup", "web", "beat", "listener", "flower"}:
        environment = OURS[name]["environment"]
        assert {"SECRET_KEY", "DATABASE_URL", "TASKS_DATABASE_URL", "REDIS_URL", "NATS_URL"} <= set(environment), name


def test_what_compose_asks_for_stands_in_the_example():
    text = (BASE_DIR / "docker" / "compose.yml").read_text()
    example = (BASE_DIR / "docker" / ".env.example").read_text()
    assert set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text)) == set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))


def test_no_secret_has_a_default():
    text = (BASE_DIR / "docker" / "compose.yml").read_text()
    for name in re.findall(r"\$\{([A-Z_]*(?:PASSWORD|SECRET|KEYFILE|AUTH)[A-Z_]*)[^?}]*\}", text):
        pytest.fail(f"{name} is used without `:?`")
    example = (BASE_DIR / "docker" / ".env.example").read_text()
    assert re.findall(r"^[A-Z_]*(?:PASSWORD|SECRET|KEYFILE|AUTH)[A-Z_]*=(.+)$", example, re.MULTILINE) == []


def test_everything_waited_for_exists_and_can_become_what_is_waited_for():
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in SERVICES, name
            assert how["condition"] == "service_completed_successfully" or "healthcheck" in SERVICES[needed], (name, needed)


def test_all_that_must_last_lies_on_a_volume():
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert mounted == set(COMPOSE["volumes"])


def test_only_web_nats_and_flower_are_published():
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"web", "nats-1", "flower"}
    assert re.search(r"^FLOWER_PORT=127\.0\.0\.1:", (BASE_DIR / "docker" / ".env.example").read_text(), re.MULTILINE)


def test_the_image_runs_as_nobody_special_and_holds_every_room():
    dockerfile = (BASE_DIR / "docker" / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE) == ["jobplatform"]
    ignored = (Path(BASE_DIR) / "docker" / "Dockerfile.dockerignore").read_text().split()
    assert not {"apps", "jobplatform", "workers", "sdk", "dsl_scripts", "manage.py", "requirements.txt"} & set(ignored)
