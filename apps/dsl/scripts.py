"""Registering and activating policy scripts.

A version never changes: a new text is a new version, the same text is the same version. Per org and script id one
version is active at most; a script whose versions are all drafts or retired does not exist for tasks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from django.db import IntegrityError, router, transaction
from django.db.models import Max

from apps.core.errors import Conflict, Invalid, Missing, Problem, TooLarge, Unavailable
from apps.dsl import engine as engines
from apps.dsl.book import BUILT_IN, book
from apps.dsl.models import PolicyScript
from apps.dsl.policies import POLICIES, Hook
from apps.orgs import audit
from apps.orgs.models import Change

SOURCE_BYTES = 256 * 1024
SCRIPT_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]*(/[A-Za-z0-9_][A-Za-z0-9_.:@+-]*){0,3}")
SCRIPT_ID_LENGTH = 120
RESERVED_SEGMENTS = frozenset({"activate", "retire"})
"""Verbs of the API stand behind a script id."""
TRIES = 8

Result = TypeVar("Result")


class UnknownScript(Missing):
    sentence = "There is no such policy script."


class OtherHook(Conflict):
    code, sentence = "other_hook", "A script keeps the hook of its first version."


@dataclass(frozen=True, kw_only=True)
class Registered:
    script: PolicyScript
    created: bool
    """False: this text was there already, as this version."""


def register(*, org_id: str, script_id: str, hook: str, source: str, by: str, now: datetime, activate: bool = False) -> Registered:
    """Keep a text as a version of `script_id`. Raises Invalid (with the line of a syntax error), TooLarge, OtherHook,
    or Unavailable when no sandbox could be started to look at it."""
    kind = _checked(script_id, hook, source)
    digest = engines.sha256(source)

    def keep() -> Registered:
        versions = PolicyScript.objects.filter(org_id=org_id, script_id=script_id)
        # An org's script may stand in for the built-in one of its name, but only to answer the same question.
        if PolicyScript.objects.filter(org_id__in=(org_id, BUILT_IN), script_id=script_id).exclude(hook=kind).exists():
            raise OtherHook(script_id=script_id)
        script = versions.filter(sha256=digest).first()
        created = script is None
        if script is None:
            version = (versions.aggregate(last=Max("version"))["last"] or 0) + 1
            script = PolicyScript(
                id=f"{org_id}/{script_id}@{version}", org_id=org_id, script_id=script_id, version=version, hook=kind, source=source,
                sha256=digest, status=PolicyScript.Status.DRAFT, created_at=now, created_by=by,
            )  # fmt: skip
            script.save(force_insert=True)
            _record(script, old=None, by=by, now=now)
        if activate:
            _make_active(script, by=by, now=now)
        return Registered(script=script, created=created)

    return _settled(keep)


def activate(*, org_id: str, script_id: str, version: int, by: str, now: datetime) -> PolicyScript:
    """Make this version the one that answers; an earlier active one is retired. Raises UnknownScript."""

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
    """Every `<directory>/<hook>/<name>.star` becomes the active version of the built-in script `<hook>/<name>`.
    Safe to repeat and in several processes at once. Raises Invalid naming the file."""
    loaded = []
    for path in built_in_files(directory):
        hook, script_id = path.parent.name, f"{path.parent.name}/{path.stem}"
        try:
            loaded.append(
                register(org_id=BUILT_IN, script_id=script_id, hook=hook, source=path.read_text(), by="platform", now=now, activate=True)
            )
        except Invalid as error:
            raise Invalid(error.problems, f"The built-in script {script_id}.star is not valid.") from error
    return loaded


def built_in_files(directory: Path) -> Iterable[Path]:
    return sorted(path for hook in Hook for path in (directory / hook).glob("*.star"))


def can_exist(script_id: str) -> bool:
    """Could a script be registered under this id? (Whatever could not need not be looked up.)"""
    well_formed = len(script_id) <= SCRIPT_ID_LENGTH and SCRIPT_ID.fullmatch(script_id)
    return bool(well_formed) and not RESERVED_SEGMENTS & set(script_id.split("/"))


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


def _checked(script_id: str, hook: str, source: str) -> Hook:
    problems = []
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
