"""Looks at everything the platform needs, and says how to mend what is wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from django.core.management.base import BaseCommand, CommandParser

from jobplatform.doctor import Level, examine


class Command(BaseCommand):
    help = "Check every dependency and say how to mend what is wrong. Exit status 1 when something fails."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="a JSON list of findings")
        parser.add_argument("--data", metavar="DIR", help="data directory (default: $JOBPLATFORM_DATA, else var)")

    def handle(self, **options) -> None:
        findings = examine()
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2))
        else:
            paint = {Level.OK: self.style.SUCCESS, Level.WARN: self.style.WARNING, Level.FAIL: self.style.ERROR}
            for finding in findings:
                self.stdout.write(f"{paint[finding.level](f'{finding.level:<4}')}  {finding.check:<10} {finding.fact}")
                if finding.mend:
                    self.stdout.write(f"{'':<18}-> {finding.mend}")
        if any(finding.level is Level.FAIL for finding in findings):
            sys.exit(1)
