"""Flower, which shows the workers: `python -m jobplatform.flower --address=… --port=…` (its own options, and FLOWER_… variables).

It needs the broker and the names of the queues, no code of ours: Celery's command line would load all of the platform for it.
"""

from __future__ import annotations

import logging.config
import os
import sys

import click
from celery import Celery
from celery.bin.base import CLIContext
from django.conf import settings
from flower.command import flower

from jobplatform.broker import Broker
from jobplatform.celery import app as platform

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")


def viewer() -> Celery:
    """An app without tasks on the same broker."""
    app = Celery("viewer", amqp=Broker, broker=settings.CELERY_BROKER_URL, fixups=[])
    for name in ("task_queues", "task_default_queue", "accept_content", "broker_transport_options", "timezone"):
        setattr(app.conf, name, getattr(platform.conf, name))
    return app


@click.group()
@click.pass_context
def main(context: click.Context) -> None:
    context.obj = CLIContext(app=viewer(), no_color=True, workdir=None, quiet=True)


if __name__ == "__main__":
    logging.config.dictConfig(settings.LOGGING)
    main.add_command(flower)
    main(["flower", *sys.argv[1:]])
