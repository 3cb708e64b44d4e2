"""`manage.py nats_config`: what a real cluster is started with."""

import json
import urllib.request
from io import StringIO

import pytest
from django.core.management import call_command

from apps.messaging.connection import Wire
from apps.messaging.credentials import platform_credentials
from jobplatform.embedded.servers import nats_binary
from jobplatform_sdk.link import LinkDown
from tests.processes import wait_until
from tests.services import Server, free_port


def config(*arguments: str) -> dict:
    out = StringIO()
    call_command("nats_config", *arguments, stdout=out)
    return json.loads(out.getvalue())


def test_a_single_server_needs_no_options():
    alone = config()
    assert (alone["port"], alone["http"], alone["server_name"]) == (4222, "0.0.0.0:8222", "nats-1")
    assert "cluster" not in alone


def test_no_private_key_is_in_it(settings):
    text = json.dumps(config("--cluster", "a:6222,b:6222"))
    assert settings.SECRET_KEY not in text
    assert platform_credentials().seed.decode() not in text


@pytest.fixture
def cluster(tmp_path):
    members = [(f"nats-{number}", free_port(), free_port(), free_port()) for number in (1, 2, 3)]
    routes = ",".join(f"127.0.0.1:{route}" for *_, route in members)
    servers = []
    for name, port, http, route in members:
        options = {"--name": name, "--port": port, "--http-port": http, "--route-port": route, "--store-dir": tmp_path / name}
        text = json.dumps(config("--host", "127.0.0.1", "--cluster", routes, *(str(part) for pair in options.items() for part in pair)))
        file = tmp_path / f"{name}.conf"
        file.write_text(text)
        servers.append(Server(name, [nats_binary(), "-c", str(file)], ready="Server is ready", port=port))
    for server in servers:
        server.start()
    yield servers, members
    for server in servers:
        server.kill()


def test_three_members_form_a_cluster_that_keeps_streams_when_one_is_lost(cluster, settings):
    servers, members = cluster
    settings.NATS_REPLICAS = 3

    def healthy(member: tuple) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{member[2]}/healthz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    wait_until(lambda: all(map(healthy, members)), what="the cluster has a leader")
    url = ",".join(f"nats://127.0.0.1:{port}" for _, port, *_ in members)
    wire = Wire(url, options=platform_credentials().options())
    try:
        assert wire.wait_up(10)
        wait_until(lambda: made(wire), what="the members have agreed on the streams")
        servers[0].kill()
        wait_until(lambda: wire.wait_up(5) and isinstance(stored(wire)[0], int), what="a delivery is stored by the two that are left")
    finally:
        wire.close()


def made(wire: Wire) -> bool:
    """A young cluster may still say no; upkeep, too, asks again."""
    try:
        wire.ensure_streams()
    except LinkDown:
        return False
    return True


def stored(wire: Wire) -> list:
    from apps.messaging.connection import Delivery

    return wire.deliver([Delivery(subject="agents.someone.tasks", payload=b"{}", msg_id="t1#1")], timeout_seconds=2)
