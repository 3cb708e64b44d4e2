"""Prints the configuration of a NATS server, or of one member of a cluster, that knows this platform's keys."""

from __future__ import annotations

import hashlib
import hmac
import json

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from apps.messaging.credentials import server_config
from jobplatform import env

CLUSTER = "jobplatform"


class Command(BaseCommand):
    help = (
        "Print a nats-server configuration with JetStream on and this platform's operator (its keys derive from SECRET_KEY). "
        "No private key is in it; the password of the cluster's routes is. Use it as: nats-server -c FILE"
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", default="nats-1", help="name of this server, unique in its cluster (default %(default)s)")
        parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default %(default)s)")  # noqa: S104 -- it is a server
        parser.add_argument("--port", type=int, default=4222, help="port of clients (default %(default)s)")
        parser.add_argument("--http-port", type=int, default=8222, help="port of monitoring; 0: none (default %(default)s)")
        parser.add_argument("--store-dir", default="/data", help="where JetStream and the accounts are kept (default %(default)s)")
        parser.add_argument("--cluster", metavar="HOST:PORT,…", default="", help="route addresses of all members, this one included")
        parser.add_argument("--route-port", type=int, default=6222, help="this member's own port of routes (default %(default)s)")

    def handle(self, **options) -> None:
        text = server_config(
            options["port"],
            options["http_port"],
            options["store_dir"],
            host=options["host"],
            server_name=options["name"],
            sync_interval=env.text("NATS_SYNC_INTERVAL"),
        )
        config = json.loads(text)
        if members := [member.strip() for member in options["cluster"].split(",") if member.strip()]:
            config["cluster"] = cluster(members, host=options["host"], port=options["route_port"])
        self.stdout.write(json.dumps(config, indent=2))


def cluster(members: list[str], *, host: str, port: int) -> dict:
    """Members let each other in with a password that derives from SECRET_KEY, so all of them know it."""
    password = hmac.new(settings.SECRET_KEY.encode(), b"nats-routes", hashlib.sha256).hexdigest()
    return {
        "name": CLUSTER,
        "host": host,
        "port": port,
        "authorization": {"user": "route", "password": password, "timeout": 2},
        "routes": [f"nats://route:{password}@{member}" for member in members],
    }
