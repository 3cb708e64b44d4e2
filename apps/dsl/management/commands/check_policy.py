"""Try a policy script without registering it: prints the answer it gives, or what is wrong with it and in which line.

    python manage.py check_policy my_policy.star --hook approval --input task.json
    python manage.py check_policy my_policy.star --hook approval --tests my_policy.tests.json

FILE.json holds a TaskEntry (wire names, also wrapped as {"type", "data"}), or the `task` itself with the short
names of docs/policies.md; without it an example task is used. TESTS.json holds the tests of the script, a list of
{"name", "input", "expect"}; without --input, the file `my_policy.tests.json` beside the script is found by itself. Exit status 0: a valid
answer and no test that fails; 1: anything else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.dsl import answers, script_tests
from apps.dsl.engine import Evaluation, engine, sha256
from apps.dsl.facts import task_of
from apps.dsl.policies import POLICIES, Hook

EXAMPLE = {
    "task_id": "example-1",
    "task_goal": "Summarize the report",
    "task_intent": "The board meets on Friday",
    "task_priority_value": 5,
    "submitter_subject_id": "acme:ada",
    "task_job_submission_data": {"job_space_id": "reports", "path": "docs/report.md", "size_bytes": 5120},
}
EXAMPLE_CANDIDATES = [{"subject_id": "agent-1", "subject_type": "agent", "role_ids": [], "capabilities": [], "presence": "up", "load": 0}]


class Command(BaseCommand):
    help = __doc__.partition("\n")[0]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="the script")
        parser.add_argument("--hook", choices=[str(hook) for hook in Hook], required=True)
        parser.add_argument("--input", type=Path, help="JSON file with a task; default: an example task")
        parser.add_argument("--candidates", type=Path, help="JSON file with the list of candidates (plan_retrieve)")
        parser.add_argument("--tests", type=Path, help="JSON file with the tests; default: <script>.tests.json beside it, if any")
        parser.add_argument("--timeout-ms", type=int, default=200)

    def handle(
        self, *, file: Path, hook: str, input: Path | None, candidates: Path | None, tests: Path | None, timeout_ms: int, **options: Any
    ) -> None:
        policy = POLICIES[Hook(hook)]
        source = _read(file)
        checked = engine().check(source, policy.function)
        if checked.kind:
            raise CommandError(f"{file}: {checked.error}")
        beside = file.with_suffix(".tests.json")
        if tests is None and input is None and beside.exists():
            tests = beside
        if tests:
            self._run_tests(file, source, policy.hook, tests, timeout_ms)
            if input is None:
                return
        inputs = {
            "task": _task(_json(input) if input else EXAMPLE),
            "candidates": _json(candidates) if candidates else EXAMPLE_CANDIDATES,
        }
        arguments = tuple(inputs[name] for name in policy.arguments)
        answer = engine().evaluate(
            [Evaluation(source=source, sha256=sha256(source), function=policy.function, arguments=arguments, timeout_ms=timeout_ms)]
        )[0]
        if answer.kind:
            raise CommandError(f"{file}: {answer.error}")
        try:
            output = answers.parse(policy.hook, answer.value, inputs)
        except answers.BadAnswer as bad:
            raise CommandError(f"{file}: {bad}. The script answered {json.dumps(answer.value)}") from bad
        self.stdout.write(json.dumps(output, indent=2, ensure_ascii=False))
        if strangers := answers.strangers(policy.hook, output):
            self.stderr.write(f"note: the answer holds what are {strangers}")
        self.stderr.write(f"{policy.function} took {answer.duration_us / 1000:.2f} ms")

    def _run_tests(self, file: Path, source: str, hook: Hook, tests: Path, timeout_ms: int) -> None:
        cases = _json(tests)
        if wrong := script_tests.problems(cases):
            raise CommandError(f"{tests}: " + "; ".join(f"{problem.field} {problem.message}" for problem in wrong))
        outcomes = script_tests.run(source, hook, cases, timeout_ms=timeout_ms)
        for outcome in outcomes:
            self.stdout.write(f"{'ok    ' if outcome.passed else 'FAILED'}  {outcome.name}")
            if not outcome.passed:
                self.stdout.write(f"        {outcome.sentence}")
        failed = sum(not outcome.passed for outcome in outcomes)
        if failed:
            raise CommandError(f"{file}: {failed} of {len(outcomes)} tests fail")
        self.stderr.write(f"{len(outcomes)} tests pass")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise CommandError(f"{path} is not JSON: {error}") from error


def _task(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise CommandError("the input must be a JSON object")
    return task_of(given)
