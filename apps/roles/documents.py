"""The documents of roles and subjects: what the wire says, read strictly, and what we answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from apps.core.errors import Invalid, Problem
from apps.messaging import subjects
from apps.roles.models import EVERY_SPACE, Role, Subject
from apps.roles.rules import MAX_ID, id_problem

MAX_LIST = 1000
MAX_METADATA = 4096


@dataclass(frozen=True, kw_only=True)
class RoleDocument:
    role_type: str
    group_ids: tuple[str, ...]
    job_space_id: str
    metadata: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SubjectDocument:
    subject_type: str
    name: str
    capabilities: tuple[str, ...]
    is_active: bool
    roles: dict[str, tuple[str, ...]]
    """Role ids by job space; those under "" are held in every space."""
    metadata: dict[str, Any]


def read_role(role_id: str, body: dict[str, Any]) -> RoleDocument:
    """Raises Invalid with every problem."""
    reader = _Reader(body)
    reader.same("role_id", role_id)
    found = RoleDocument(
        role_type=reader.id("role_type", most=64),
        group_ids=reader.ids("group_ids"),
        job_space_id=reader.id("job_space_id", default=EVERY_SPACE),
        metadata=reader.parcel("metadata"),
    )
    reader.finish()
    return found


def read_subject(org_id: str, subject_id: str, body: dict[str, Any]) -> SubjectDocument:
    """Raises Invalid with every problem."""
    reader = _Reader(body)
    reader.same("subject_id", subject_id)
    try:
        subjects.agent_token(org_id, subject_id)
    except ValueError as error:
        reader.wrong("subject_id", "too_long", str(error))
    found = SubjectDocument(
        subject_type=reader.choice("subject_type", Subject.Type.values, default=Subject.Type.AGENT.value),
        name=reader.text("name", most=200),
        capabilities=reader.ids("capabilities", most=64),
        is_active=reader.flag("is_active", default=True),
        roles={EVERY_SPACE: reader.ids("role_ids"), **reader.ids_by_id("job_spaces")},
        metadata=reader.parcel("metadata"),
    )
    if sum(map(len, found.roles.values())) > MAX_LIST:
        reader.wrong("job_spaces", "too_many", f"more than {MAX_LIST} roles held")
    reader.finish()
    return found


def role_json(role: Role) -> dict[str, Any]:
    """With `groups` prefetched, no query."""
    return {
        "role_id": role.role_id,
        "role_type": role.role_type,
        "group_ids": sorted(group.group_id for group in role.groups.all()),
        "job_space_id": role.job_space_id,
        **({"metadata": role.metadata} if role.metadata else {}),
    }


def subject_json(subject: Subject) -> dict[str, Any]:
    """With `roles_held__role` prefetched, no query."""
    roles: dict[str, list[str]] = {}
    for held in subject.roles_held.all():
        roles.setdefault(held.job_space_id, []).append(held.role.role_id)
    return {
        "subject_id": subject.subject_id,
        "subject_type": subject.subject_type,
        "name": subject.name,
        "capabilities": subject.capabilities,
        "is_active": subject.is_active,
        "role_ids": sorted(roles.pop(EVERY_SPACE, [])),
        "job_spaces": {space: sorted(role_ids) for space, role_ids in sorted(roles.items())},
        **({"metadata": subject.metadata} if subject.metadata else {}),
    }


class _Reader:
    """Takes fields out of a body, noting what is wrong; what is left at the end is unknown."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._left = dict(body)
        self._problems: list[Problem] = []

    def wrong(self, field: str, code: str, message: str) -> None:
        self._problems.append(Problem(field=field, code=code, message=message))

    def finish(self) -> None:
        for name in list(self._left)[:20]:
            self.wrong(name[:64], "unknown", "is not known here")
        if self._problems:
            raise Invalid(self._problems)

    def same(self, name: str, expected: str) -> None:
        """The id in the path; a body may repeat it."""
        problem = id_problem(expected)
        if problem:
            self.wrong(name, "wrong", problem)
        elif self._left.pop(name, expected) != expected:
            self.wrong(name, "wrong", "differs from the one in the path")

    def id(self, name: str, *, most: int = MAX_ID, default: str | None = None) -> str:
        if name not in self._left and default is None:
            self.wrong(name, "missing", "is required")
            return ""
        value = self._left.pop(name, default)
        if default is not None and value == default:
            return default
        return self._checked(name, value, id_problem(value, most=most), "")

    def text(self, name: str, *, most: int) -> str:
        value = self._left.pop(name, "")
        fits = isinstance(value, str) and len(value) <= most and (value.isprintable())
        return self._checked(name, value, None if fits else f"must be a string of at most {most} printable characters", "")

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._left.pop(name, default)
        return self._checked(name, value, None if isinstance(value, bool) else "must be true or false", default)

    def parcel(self, name: str) -> dict[str, Any]:
        """Free JSON, in an object that is small beside what it describes."""
        value = self._left.pop(name, {})
        if not isinstance(value, dict):
            return self._checked(name, value, "must be an object", {})
        fits = len(orjson.dumps(value)) <= MAX_METADATA
        return self._checked(name, value, None if fits else f"must have at most {MAX_METADATA} bytes as JSON", {})

    def choice(self, name: str, options: list[str], *, default: str) -> str:
        value = self._left.pop(name, default)
        fits = isinstance(value, str) and value in options
        return self._checked(name, value, None if fits else f"must be one of {', '.join(options)}", default)

    def ids(self, name: str, *, most: int = MAX_ID) -> tuple[str, ...]:
        return self._ids(name, self._left.pop(name, []), most)

    def ids_by_id(self, name: str) -> dict[str, tuple[str, ...]]:
        value = self._left.pop(name, {})
        if not isinstance(value, dict) or any(id_problem(key) for key in value):
            self.wrong(name, "wrong", "must be an object: job space id to list of role ids")
            return {}
        return {key: self._ids(f"{name}.{key}", each, MAX_ID) for key, each in value.items()}

    def _ids(self, path: str, value: Any, most: int) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > MAX_LIST:
            self.wrong(path, "wrong_type", f"must be a list of at most {MAX_LIST}")
            return ()
        for index, item in enumerate(value):
            problem = id_problem(item, most=most)
            if problem:
                self.wrong(f"{path}.{index}", "wrong", problem)
                return ()
        return tuple(dict.fromkeys(value))

    def _checked(self, name: str, value: Any, problem: str | None, instead: Any) -> Any:
        if problem is None:
            return value
        self.wrong(name, "wrong", problem)
        return instead


