"""The spec's two queries: the role-group and the subject-roles documents of one org that match a filter.

Documents are matched in memory, so that lists, paths and null mean exactly what they mean in MongoDB. What a filter
plainly demands (a field equal to, or one of, some words) is asked of the database first, so the queries that candidate
pools are made of cost one indexed read; whatever else it says costs a look at the org's documents, which are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from apps.core.errors import Problem
from apps.roles.documents import role_json
from apps.roles.filter_kinds import FREE, TEXT, TEXTS
from apps.roles.filter_matching import matches
from apps.roles.filters import All, BadFilter, Field, Node, Test, read
from apps.roles.models import Role, RoleGroup, SubjectRole

MAX_DOCUMENTS = 10_000
MAX_ROWS = 50_000
"""Rows looked at for one answer."""

ROLE_FIELDS = {
    "role_id": Field(kind=TEXT),
    "role_type": Field(kind=TEXT),
    "group_ids": Field(kind=TEXTS),
    "job_space_id": Field(kind=TEXT),
    "metadata": Field(kind=FREE),
}
SUBJECT_FIELDS = {
    "subject_id": Field(kind=TEXT),
    "role_ids": Field(kind=TEXTS),
    "subject_type": Field(kind=TEXT),
    "job_space_id": Field(kind=TEXT),
    "metadata": Field(kind=FREE),
}

IsOneOf = Callable[[Sequence[str]], Q]
# Documents of subjects are rows of SubjectRole grouped by subject and job space, so a condition on their `role_ids`
# looks at all the rows of the same document.
_SAME_DOCUMENT = SubjectRole.objects.filter(subject=OuterRef("subject"), job_space_id=OuterRef("job_space_id"))
_ROLE_NARROWS: dict[str, IsOneOf] = {
    "role_id": lambda values: Q(role_id__in=values),
    "role_type": lambda values: Q(role_type__in=values),
    "job_space_id": lambda values: Q(job_space_id__in=values),
    "group_ids": lambda values: Q(Exists(RoleGroup.objects.filter(role=OuterRef("pk"), group_id__in=values))),
}
_SUBJECT_NARROWS: dict[str, IsOneOf] = {
    "subject_id": lambda values: Q(subject__subject_id__in=values),
    "subject_type": lambda values: Q(subject__subject_type__in=values),
    "job_space_id": lambda values: Q(job_space_id__in=values),
    "role_ids": lambda values: Q(Exists(_SAME_DOCUMENT.filter(role__role_id__in=values))),
}


def roles(org_id: str, filter: Any) -> list[dict[str, Any]]:
    """Sorted by id. Raises BadFilter."""
    tree = read(filter, ROLE_FIELDS)
    rows = Role.objects.filter(_narrowed(tree, _ROLE_NARROWS), org_id=org_id).order_by("role_id").prefetch_related("groups")
    return _matching(tree, (role_json(role) for role in _bounded(rows)))


def subject_roles(org_id: str, filter: Any) -> list[dict[str, Any]]:
    """One document per active subject and job space, sorted by both. Raises BadFilter."""
    tree = read(filter, SUBJECT_FIELDS)
    rows = (
        SubjectRole.objects.filter(_narrowed(tree, _SUBJECT_NARROWS), subject__org_id=org_id, subject__is_active=True)
        .order_by("subject__subject_id", "job_space_id", "role__role_id")
        .values_list("subject__subject_id", "job_space_id", "role__role_id", "subject__subject_type", "subject__metadata")
    )
    return _matching(tree, map(_subject_document, groupby(_bounded(rows), key=lambda row: row[:2])))


def _subject_document(group: tuple[Any, Any]) -> dict[str, Any]:
    (subject_id, space), held = group
    rows = list(held)
    *_, subject_type, metadata = rows[0]
    found = {"subject_id": subject_id, "role_ids": [row[2] for row in rows], "subject_type": subject_type, "job_space_id": space}
    return found | {"metadata": metadata} if metadata else found


def _matching(tree: Node, documents: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [document for document in documents if matches(tree, document)]
    if len(found) > MAX_DOCUMENTS:
        raise BadFilter([Problem(field="", code="too_many", message=f"more than {MAX_DOCUMENTS} match; narrow the filter")])
    return found


def _bounded(rows: QuerySet[Any]) -> list[Any]:
    found = list(rows[: MAX_ROWS + 1])
    if len(found) > MAX_ROWS:
        message = f"more than {MAX_ROWS} would have to be looked at; name a role, a subject or a job space"
        raise BadFilter([Problem(field="", code="too_many", message=message)])
    return found


def _narrowed(node: Node, narrows: Mapping[str, IsOneOf]) -> Q:
    """A condition that holds for every document that matches, and for some that do not."""
    if isinstance(node, All):
        found = Q()
        for part in node.parts:
            found &= _narrowed(part, narrows)
        return found
    if isinstance(node, Test) and len(node.path) == 1 and node.path[0] in narrows and node.operator in ("$eq", "$in"):
        values = node.operand if node.operator == "$in" else (node.operand,)
        if all(isinstance(value, str) for value in values):
            return narrows[node.path[0]](values)
    return Q()
