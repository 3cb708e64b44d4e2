"""Registering, testing and activating policy scripts.

A version never changes: a new text is a new version, the same text is the same version. Per org and script id one
version is active at most; a script whose versions are all drafts or retired does not exist for tasks. A version whose
own tests fail does not become active.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from django.db import IntegrityError, router, transaction
from django.db.models import Max

from apps.core.errors import Conflict, Forbidden, Invalid, Malformed, Missing, Problem, TooLarge, Unavailable
from apps.core.strict_json import Limits, parse_json
from apps.dsl import engine as engines
from apps.dsl import script_tests
from apps.dsl.book import BUILT_IN, book
from apps.dsl.models import PolicyScript
from apps.dsl.policies import POLICIES, Hook
from apps.orgs import audit
from apps.orgs.config_store import OrgConfigProvider
from apps.orgs.models import Change, OrgConfigParameter

SOURCE_BYTES = 256 * 1024
SCRIPT_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]*(/[A-Za-z0-9_][A-Za-z0-9_.:@+-]*){0,3}")
SCRIPT_ID_LENGTH = 120
RESERVED_SEGMENTS = frozenset({"activate", "retire", "run-tests", "diff", "backtest"})
"""Verbs of the API stand behind a script id."""
TRIES = 8

Result = TypeVar("Result")


class UnknownScript(Missing):
    sentence = "There is no such policy script."


class OtherHook(Conflict):
    code, sentence = "other_hook", "A script keeps the hook of its first version."


class TestsFailed(Invalid):
    """The version's own tests do not pass; it stays what it was."""

    code, sentence, shown = "tests_failed", "The tests of this version fail.", ("tests",)
    __test__ = False  # not pytest's

    def __init__(self, outcomes: list[script_tests.Outcome]) -> None:
        failed = [(at, outcome) for at, outcome in enumerate(outcomes) if not outcome.passed]
        super().__init__(
            [Problem(field=f"tests[{at}]", code="test_failed", message=f"{outcome.name}: {outcome.sentence}") for at, outcome in failed],
            f"{len(failed)} of {len(outcomes)} tests of this version fail; it was not activated.",
            tests=[outcome.json() for _, outcome in failed],
        )


class OtherPersonNeeded(Forbidden):
    code, sentence = "other_person_needed", "This org wants a version to be activated by somebody else than who wrote it."


@dataclass(frozen=True, kw_only=True)
class Registered:
    script: PolicyScript
    created: bool
    """False: this text was there already, as this version."""


def register(
    *,
    org_id: str,
    script_id: str,
    hook: str,
    source: str,
    by: str,
    now: datetime,
    activate: bool = False,
    tests: list[script_tests.Case] | None = None,
) -> Registered:
    """Keep a text, with its tests, as a version of `script_id`. Without `tests`, a text that is there already is its newest version.

    Raises Invalid (with the line of a syntax error), TooLarge, OtherHook, or Unavailable when no sandbox could be started
    to look at it; to be activated as well, also what `activate` raises, and then nothing is kept."""
    kind = _checked(script_id, hook, source, tests)
    digest = engines.sha256(source)
    if activate:
        _check_person(org_id, author=_author(org_id, script_id, digest, tests) or by, by=by)
        _run_tests(org_id, source, kind, _known_tests(org_id, script_id, digest) if tests is None else tests)

    def keep() -> Registered:
        versions = PolicyScript.objects.filter(org_id=org_id, script_id=script_id)
        # An org's script may stand in for the built-in one of its name, but only to answer the same question.
        if PolicyScript.objects.filter(org_id__in=(org_id, BUILT_IN), script_id=script_id).exclude(hook=kind).exists():
            raise OtherHook(script_id=script_id)
        same = versions.filter(sha256=digest)
        if tests is not None:
            same = same.filter(tests_sha256=script_tests.digest(tests))
        script = same.order_by("-version").first()
        created = script is None
        if script is None:
            version = (versions.aggregate(last=Max("version"))["last"] or 0) + 1
            script = PolicyScript(
                id=f"{org_id}/{script_id}@{version}", org_id=org_id, script_id=script_id, version=version, hook=kind, source=source,
                sha256=digest, tests=tests or [], tests_sha256=script_tests.digest(tests or []), status=PolicyScript.Status.DRAFT,
                created_at=now, created_by=by,
            )  # fmt: skip
            script.save(force_insert=True)
            _record(script, old=None, by=by, now=now)
        if activate:
            _make_active(script, by=by, now=now)
        return Registered(script=script, created=created)

    return _settled(keep)


def activate(*, org_id: str, script_id: str, version: int, by: str, now: datetime) -> PolicyScript:
    """Make this version the one that answers; an earlier active one is retired. Raises UnknownScript, TestsFailed, and
    OtherPersonNeeded where the org asks for one."""
    found = _find(org_id, script_id, version)
    _check_person(org_id, author=found.created_by, by=by)
    _run_tests(org_id, found.source, Hook(found.hook), found.tests)

    def switch() -> PolicyScript:
        script = _find(org_id, script_id, version)
        _make_active(script, by=by, now=now)
        return script

    return _settled(switch)


def retire(*, org_id: str, script_id: str, version: int, by: str, now: datetime) -> PolicyScript:
    """From now on this version does not answer. Raises UnknownScript."""

    def withdraw() -> PolicyScript:
        script = _find(org_id, script_id, version)
        _set_status(script, PolicyScript.Status.RETIRED, by=by, now=now)
        return script

    return _settled(withdraw)


def load_built_in(directory: Path, *, now: datetime) -> list[Registered]:
    """Every `<directory>/<hook>/<name>.star`, with the tests in `<name>.tests.json` beside it, becomes the active version
    of the built-in script `<hook>/<name>`.
    Safe to repeat and in several processes at once. Raises Invalid naming the file."""
    loaded = []
    for path in built_in_files(directory):
        hook, script_id = path.parent.name, f"{path.parent.name}/{path.stem}"
        try:
            loaded.append(
                register(
                    org_id=BUILT_IN, script_id=script_id, hook=hook, source=path.read_text(), tests=_tests_beside(path), by="platform",
                    now=now, activate=True,
                )  # fmt: skip
            )
        except Invalid as error:
            raise Invalid(error.problems, f"The built-in script {script_id}.star, or one of its tests, is not valid.") from error
    return loaded


def built_in_files(directory: Path) -> Iterable[Path]:
    return sorted(path for hook in Hook for path in (directory / hook).glob("*.star"))


def can_exist(script_id: str) -> bool:
    """Could a script be registered under this id? (Whatever could not need not be looked up.)"""
    well_formed = len(script_id) <= SCRIPT_ID_LENGTH and SCRIPT_ID.fullmatch(script_id) and not script_id.startswith("remote:")
    return bool(well_formed) and not RESERVED_SEGMENTS & set(script_id.split("/"))


def test(script: PolicyScript, tests: list[script_tests.Case] | None = None) -> list[script_tests.Outcome]:
    """Run a version's own tests, or others on it."""
    timeout_ms = OrgConfigProvider().of(script.org_id).dsl_timeout_ms if script.org_id else script_tests.TIMEOUT_MS
    return script_tests.run(script.source, Hook(script.hook), script.tests if tests is None else tests, timeout_ms=timeout_ms)


test.__test__ = False  # type: ignore[attr-defined]  # not pytest's


def person(by: str) -> str:
    """Who is behind `by`: the subject, whichever of its keys was used; without one, the key."""
    return by.partition(" (key ")[0]


def _check_person(org_id: str, *, author: str, by: str) -> None:
    if not org_id or person(author) != person(by):
        return
    # Rare and grave: asked of the database, not of a cache.
    wish = OrgConfigParameter.objects.filter(org_id=org_id, key="policy_activation_needs_other_person").values_list("value", flat=True)
    if wish.first() is True:
        raise OtherPersonNeeded()


def _run_tests(org_id: str, source: str, hook: Hook, tests: list[script_tests.Case]) -> None:
    if tests:
        outcomes = test(PolicyScript(org_id=org_id, source=source, hook=hook, tests=tests))
        if not all(outcome.passed for outcome in outcomes):
            raise TestsFailed(outcomes)


def _same_text(org_id: str, script_id: str, digest: str) -> Any:
    return PolicyScript.objects.filter(org_id=org_id, script_id=script_id, sha256=digest).order_by("-version")


def _known_tests(org_id: str, script_id: str, digest: str) -> list[script_tests.Case]:
    return _same_text(org_id, script_id, digest).values_list("tests", flat=True).first() or []


def _author(org_id: str, script_id: str, digest: str, tests: list[script_tests.Case] | None) -> str | None:
    found = _same_text(org_id, script_id, digest)
    if tests is not None:
        found = found.filter(tests_sha256=script_tests.digest(tests))
    return found.values_list("created_by", flat=True).first()


def _tests_beside(path: Path) -> list[script_tests.Case]:
    beside = path.with_suffix(".tests.json")
    if not beside.exists():
        return []
    try:
        return parse_json(beside.read_bytes(), Limits(body=script_tests.CASES_BYTES))
    except Malformed as error:
        raise Invalid([Problem(field="tests", code="malformed", message=f"{beside.name}: {error.sentence}")]) from error


def _find(org_id: str, script_id: str, version: int) -> PolicyScript:
    script = PolicyScript.objects.filter(org_id=org_id, script_id=script_id, version=version).first()
    if script is None:
        raise UnknownScript(script_id=script_id, version=version)
    return script


def _make_active(script: PolicyScript, *, by: str, now: datetime) -> None:
    active = PolicyScript.objects.filter(org_id=script.org_id, script_id=script.script_id, status=PolicyScript.Status.ACTIVE)
    for other in active.exclude(pk=script.pk):
        _set_status(other, PolicyScript.Status.RETIRED, by=by, now=now)
    _set_status(script, PolicyScript.Status.ACTIVE, by=by, now=now)


def _set_status(script: PolicyScript, status: PolicyScript.Status, *, by: str, now: datetime) -> None:
    if script.status != status:
        old, script.status = script.status, status
        script.save(update_fields=["status"])
        _record(script, old=old, by=by, now=now)


def _record(script: PolicyScript, *, old: str | None, by: str, now: datetime) -> None:
    key = f"{script.script_id}@{script.version}"
    audit.record(org_id=script.org_id, kind=Change.Kind.POLICY, key=key, old=old, new=str(script.status), by=by, at=now)


def _settled(change: Callable[[], Result]) -> Result:
    """Run `change` in a transaction. Another process may take the version number or the active place between our
    read and our write: the constraints notice, and we look again."""
    alias = router.db_for_write(PolicyScript)
    for _ in range(TRIES):
        try:
            with transaction.atomic(using=alias):
                result = change()
        except IntegrityError:
            continue
        transaction.on_commit(book().forget, using=alias)
        return result
    raise Unavailable("Others are changing this script at the same moment.")


def _checked(script_id: str, hook: str, source: str, tests: list[script_tests.Case] | None) -> Hook:
    problems = script_tests.problems(tests) if tests is not None else []
    if not can_exist(script_id):
        rule = "up to 4 parts joined by /, each of A-Z a-z 0-9 _ . : @ + -, starting with a letter, a digit or _"
        problems.append(Problem(field="script_id", code="bad_id", message=f"must be {rule}; {SCRIPT_ID_LENGTH} characters at most"))
    if hook not in set(Hook):
        problems.append(Problem(field="hook", code="not_allowed", message=f"must be one of {', '.join(Hook)}"))
    if not source.strip():
        problems.append(Problem(field="source", code="empty", message="must be the text of a script"))
    elif "\x00" in source or any("\ud800" <= character <= "\udfff" for character in source):
        problems.append(Problem(field="source", code="bad_text", message="holds characters that are not text"))
    elif len(source.encode()) > SOURCE_BYTES:
        raise TooLarge(f"A policy script has at most {SOURCE_BYTES // 1024} kB.", field="source")
    if problems:
        raise Invalid(problems)
    answer = engines.engine().check(source, POLICIES[Hook(hook)].function)
    if answer.kind == "unavailable":
        raise Unavailable("The policy sandbox does not start.")
    if answer.kind:
        codes = {"script": "syntax", "entry": "no_entry"}
        raise Invalid([Problem(field="source", code=codes.get(answer.kind, "limits"), message=answer.error)], line=answer.line)
    return Hook(hook)
