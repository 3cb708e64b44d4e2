"""`manage.py listener`: applies what agents report. Run as many copies as you like."""

from __future__ import annotations

import signal
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Hear agents: apply their reports and heartbeats until stopped (SIGTERM or Ctrl-C)."
    requires_system_checks = []

    def handle(self, **_options: Any) -> None:
        from workers.listener import Listener

        listener = Listener()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: listener.stop())
        self.stdout.write("listening")
        self.stdout.flush()
        listener.run()
