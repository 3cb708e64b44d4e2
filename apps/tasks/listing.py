"""Which tasks a list shows: filters from a query string, and pages by cursor.

Newest first. A page ends with a cursor that names the last task's place in the order of arrival, so pages neither skip
nor repeat while tasks come in, and the hundredth costs what the first does.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import orjson
from django.db.models import Q, QuerySet

from apps.core import ids, pages
from apps.core.errors import Invalid, Malformed, Problem
from apps.core.queries import BadCursor, BadQuery
from apps.core.strict_json import parse_json
from apps.roles.filter_kinds import NUMBER, TEXT, TIME
from apps.roles.filter_queries import condition
from apps.roles.filters import Field
from apps.tasks.models import DeadLetter, Task
from apps.tasks.parser import ID_LENGTH, Problems, instant
from apps.tasks.states import TaskStatus

LIMIT_DEFAULT, LIMIT_MAX = 50, 200
TEXT_MAX = 255
HEAVY = ("entry", "result", "excluded_agents")


Read = Callable[[str, str, Problems], Any]


def _text(value: str, field: str, problems: Problems) -> Any:
    if not 0 < len(value) <= TEXT_MAX or "\x00" in value:
        problems.append(Problem(field=field, code="bad_value", message=f"must have 1 to {TEXT_MAX} characters"))
    return value


def _whole(low: int, high: int) -> Read:
    def read(value: str, field: str, problems: Problems) -> Any:
        digits = value.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) <= 9 and low <= int(value) <= high:
            return int(value)
        problems.append(Problem(field=field, code="bad_value", message=f"must be a whole number from {low} to {high}"))
        return low

    return read


PLAIN_FILTERS: Mapping[str, tuple[str, Read]] = {
    "agent": ("head_agent_subject_id", _text),
    "job_space": ("job_space_id", _text),
    "submitter": ("submitter_subject_id", _text),
    "created_from": ("created_at__gte", instant),
    "created_to": ("created_at__lt", instant),
    "updated_from": ("updated_at__gte", instant),
    "updated_to": ("updated_at__lt", instant),
    "priority_min": ("priority__gte", _whole(-(10**9), 10**9)),
    "priority_max": ("priority__lte", _whole(-(10**9), 10**9)),
    "not_before_from": ("not_before__gte", instant),
    "not_before_to": ("not_before__lt", instant),
    "schedule": ("schedule_id", _text),
    "retry_of": ("retry_of", _text),
    "q": ("task_id__startswith", _text),
}
"""Query parameter → lookup, and how to read its value."""
OTHERS = {"parent", "status", "limit", "cursor", "where"}

_MAYBE = {"nullable": True}
WHERE: Mapping[str, Field] = {
    "task_id": Field(kind=TEXT, column="task_id"),
    "kind": Field(kind=TEXT, column="kind"),
    "status": Field(kind=TEXT, column="status"),
    "reason": Field(kind=TEXT, column="reason"),
    "goal": Field(kind=TEXT, column="goal"),
    "intent": Field(kind=TEXT, column="intent"),
    "agent": Field(kind=TEXT, column="head_agent_subject_id"),
    "job_space": Field(kind=TEXT, column="job_space_id"),
    "submitter": Field(kind=TEXT, column="submitter_subject_id"),
    "schedule": Field(kind=TEXT, column="schedule_id"),
    "retry_of": Field(kind=TEXT, column="retry_of"),
    "priority": Field(kind=NUMBER, column="priority"),
    "attempt": Field(kind=NUMBER, column="attempt"),
    "progress": Field(kind=NUMBER, column="progress"),
    "created_at": Field(kind=TIME, column="created_at"),
    "updated_at": Field(kind=TIME, column="updated_at"),
    "not_before": Field(kind=TIME, column="not_before", **_MAYBE),
    "deadline": Field(kind=TIME, column="deadline", **_MAYBE),
    "finished_at": Field(kind=TIME, column="finished_at", **_MAYBE),
}
"""What the parameter `where` may ask, in the language of apps/roles/filters.py."""
WHERE_MAX = 4000


def _where(value: str, problems: Problems) -> Q:
    try:
        if len(value) > WHERE_MAX:
            raise Malformed(f"must have at most {WHERE_MAX} characters")
        return condition(parse_json(value.encode(errors="surrogatepass")), WHERE)
    except Invalid as error:
        problems += [Problem(field=f"where.{p.field}".rstrip("."), code=p.code, message=p.message) for p in error.problems]
    except Malformed as error:
        problems.append(Problem(field="where", code=error.code, message=error.sentence))
    return Q()


@dataclass(frozen=True, kw_only=True)
class TaskQuery:
    statuses: tuple[str, ...]
    lookups: dict[str, Any]
    limit: int
    after: tuple[int, str] | None
    """(sequence, task_id) of the last row of the page before."""
    where: Q = field(default_factory=Q)

    @classmethod
    def of(cls, params: Any, *, parent: str = "") -> TaskQuery:
        """From a QueryDict; with `parent`, of the sub-tasks of that task. Raises BadQuery with every problem, or BadCursor."""
        problems: Problems = []
        _known(params, PLAIN_FILTERS.keys() | OTHERS, {"status"}, problems)
        statuses = _choices(params, "status", [status.value for status in TaskStatus], problems)
        lookups = {lookup: read(params[name], name, problems) for name, (lookup, read) in PLAIN_FILTERS.items() if name in params}
        if parent or "parent" in params:
            lookups["parent"] = parent or _text(params["parent"], "parent", problems)
        limit = _whole(1, LIMIT_MAX)(params["limit"], "limit", problems) if "limit" in params else LIMIT_DEFAULT
        where = _where(params["where"], problems) if "where" in params else Q()
        if problems:
            raise BadQuery(problems)
        after = read_cursor(params["cursor"]) if "cursor" in params else None
        return cls(statuses=statuses, lookups=lookups, limit=limit, after=after, where=where)

    def page(self, org_id: str) -> tuple[list[Task], str | None]:
        """The tasks, and the cursor of the next page when there is one. Heavy fields are left in the store."""
        return page_of(self.rows(org_id).defer(*HEAVY), org_id, after=self.after, limit=self.limit)

    def rows(self, org_id: str) -> QuerySet[Task]:
        """All that the filters find, in no order."""
        lookups = dict(self.lookups)
        if parent := lookups.pop("parent", ""):
            lookups["parent_key"] = ids.task_key(org_id, parent)
        rows = Task.objects.filter(self.where, org_id=org_id, **lookups)
        return rows.filter(status__in=self.statuses) if self.statuses else rows


@dataclass(frozen=True, kw_only=True)
class DeadLetterQuery:
    """Which dead letters a list shows; those that wait for somebody, unless it says otherwise."""

    lookups: dict[str, Any]
    limit: int
    after: tuple[int, str] | None

    FILTERS: ClassVar[Mapping[str, tuple[str, Read]]] = {
        "agent": ("agent", _text),
        "job_space": ("job_space_id", _text),
        "from": ("at__gte", instant),
        "to": ("at__lt", instant),
        "q": ("task_id__startswith", _text),
    }

    @classmethod
    def of(cls, params: Any) -> DeadLetterQuery:
        problems: Problems = []
        _known(params, {*cls.FILTERS, "kind", "state", "limit", "cursor"}, {"kind"}, problems)
        kinds = _choices(params, "kind", DeadLetter.Kind.values, problems)
        states = _choices(params, "state", DeadLetter.State.values, problems) or (DeadLetter.State.WAITING.value,)
        lookups = {lookup: read(params[name], name, problems) for name, (lookup, read) in cls.FILTERS.items() if name in params}
        limit = _whole(1, LIMIT_MAX)(params["limit"], "limit", problems) if "limit" in params else LIMIT_DEFAULT
        if problems:
            raise BadQuery(problems)
        lookups |= {"state__in": states} if len(states) > 1 else {"state": states[0]}
        if kinds:
            lookups["kind__in"] = kinds
        return cls(lookups=lookups, limit=limit, after=read_cursor(params["cursor"]) if "cursor" in params else None)

    def page(self, org_id: str) -> tuple[list[DeadLetter], str | None]:
        """The last that ended first."""
        return page_of(self.rows(org_id), org_id, after=self.after, limit=self.limit)

    def rows(self, org_id: str) -> QuerySet[DeadLetter]:
        return DeadLetter.objects.filter(org_id=org_id, **self.lookups)


Row = TypeVar("Row", Task, DeadLetter)


def page_of(rows: QuerySet[Row], org_id: str, *, after: tuple[int, str] | None, limit: int) -> tuple[list[Row], str | None]:
    """The next rows, newest first, and the cursor of what follows."""
    if after:
        sequence, task_id = after
        # Two processes may count the same microsecond; the key settles it.
        rows = rows.filter(Q(sequence__lt=sequence) | Q(sequence=sequence, key__lt=ids.task_key(org_id, task_id)))
    return pages.page_of(rows.order_by("-sequence", "-key"), limit, cursor_of)


def _known(params: Any, known: set[str], several: set[str], problems: Problems) -> None:
    for name in params.keys() - known:
        problems.append(Problem(field=name[:80], code="unknown", message="is not a filter"))
    for name in params.keys() - several:
        if len(params.getlist(name)) > 1:
            problems.append(Problem(field=name[:80], code="repeated", message="may be given once"))


def _choices(params: Any, name: str, allowed: Sequence[str], problems: Problems) -> tuple[str, ...]:
    chosen = tuple(one for value in params.getlist(name) for one in value.split(","))
    if wrong := [one for one in chosen if one not in allowed]:
        problems.append(Problem(field=name, code="not_allowed", message=f"must be one of {', '.join(allowed)}, not {wrong[0][:40]}"))
    return chosen


def cursor_of(row: Task | DeadLetter) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([row.sequence, row.task_id])).rstrip(b"=").decode()


def read_cursor(text: str) -> tuple[int, str]:
    try:
        sequence, task_id = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise BadCursor() from None
    if type(sequence) is not int or type(task_id) is not str or not 0 <= sequence < 2**63 or not 0 < len(task_id) <= ID_LENGTH:
        raise BadCursor()
    return sequence, task_id
