import os
import socket
import stat

import pytest

from jobplatform.embedded import place as place_module
from jobplatform.embedded.place import PORTS, Place, Taken


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def place(tmp_path) -> Place:
    place = Place(tmp_path / "data")
    place.run.mkdir(parents=True)
    return place


def test_a_directory_belongs_to_one_at_a_time(tmp_path):
    refused = pytest.raises(Taken, match=rf"pid {os.getpid()}\) is using {tmp_path}.*--data DIR")
    with Place(tmp_path).held(), refused, Place(tmp_path).held():
        pass
    with Place(tmp_path).held():
        pass


def test_a_directory_that_cannot_be_used_is_said_in_one_sentence(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "log").touch()
    with pytest.raises(Taken, match=rf"{tmp_path}/data/log cannot be used: File exists.*--data DIR"), Place(tmp_path / "data").held():
        pass


def test_a_server_gets_the_port_it_had_last_time(place):
    first = place.ports({"web": 0, "redis": 0, "nats": 0})
    assert len(set(first.values())) == 3
    assert all(port in PORTS for port in first.values())
    assert place.ports({"redis": 0}) == {"redis": first["redis"]}
    assert place.ports({"web": 0, "redis": 0, "nats": 0}) == first


def test_a_port_in_use_is_refused_by_name_and_a_remembered_one_is_replaced(place):
    before = place.ports({"redis": 0})["redis"]
    with socket.create_server(("127.0.0.1", before)):
        with pytest.raises(Taken, match=rf"port {before} for web is in use.*pid {os.getpid()}.*--port \(0: any free one\)"):
            place.ports({"web": before})
        assert place.ports({"redis": 0})["redis"] != before


def test_a_server_gets_the_port_it_would_like_when_that_is_free_and_keeps_what_it_has(place, monkeypatch):
    monkeypatch.setattr(place_module, "_is_free", lambda _host, port: port != 4222)
    got = place.ports({"nats": 0}, liked={"nats": 4222})["nats"]
    assert got in PORTS
    monkeypatch.setattr(place_module, "_is_free", lambda _host, _port: True)
    assert place.ports({"nats": 0}, liked={"nats": 4222}) == {"nats": got}
    (place.run / "ports.json").unlink()
    assert place.ports({"nats": 0}, liked={"nats": 4222}) == {"nats": 4222}
    (place.run / "ports.json").unlink()
    assert place.ports({"nats": 0})["nats"] in PORTS


def test_a_secret_is_made_once_and_readable_by_its_owner_only(place):
    secret = place.secret("valkey/password")
    assert len(secret) >= 32
    assert place.secret("valkey/password") == secret
    assert mode(place.data / "valkey" / "password") == 0o600
