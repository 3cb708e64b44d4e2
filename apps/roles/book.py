"""Writing roles and subjects: each change whole or not at all, and on the audit trail."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import router, transaction

from apps.core.errors import Invalid, Missing, Problem
from apps.orgs.audit import record
from apps.orgs.keys import KeyMade
from apps.orgs.models import ApiKey, Change
from apps.roles import directory
from apps.roles.documents import RoleDocument, SubjectDocument, role_json, subject_json
from apps.roles.models import Role, RoleGroup, Subject, SubjectRole


class NoSuchRole(Missing):
    sentence = "There is no such role."


class NoSuchSubject(Missing):
    sentence = "There is no such subject."


def welcome(made: KeyMade) -> None:
    """An agent that gets its first key is a subject from then on; its roles come later."""
    if made.role == ApiKey.Role.AGENT:
        Subject.objects.get_or_create(org_id=made.org_id, subject_id=made.subject_id, defaults={"subject_type": Subject.Type.AGENT})


class RoleBook:
    """The roles and subjects of one org, changed in the name of `by`."""

    def __init__(self, org_id: str, *, by: str, now: datetime) -> None:
        self.org_id, self.by, self.now = org_id, by, now

    def put_role(self, role_id: str, document: RoleDocument) -> tuple[dict[str, Any], bool]:
        """(the role as it now is, whether it is new)"""
        with transaction.atomic(using=router.db_for_write(Role)):
            first = {"role_type": document.role_type, "job_space_id": document.job_space_id, "metadata": document.metadata}
            role, is_new = Role.objects.get_or_create(org_id=self.org_id, role_id=role_id, defaults=first)
            # The update holds the row: another writer of this role waits for our commit.
            Role.objects.filter(pk=role.pk).update(**first)
            old = None if is_new else role_json(role)
            RoleGroup.objects.filter(role=role).delete()
            RoleGroup.objects.bulk_create(RoleGroup(role=role, group_id=group_id) for group_id in document.group_ids)
            new = role_json(self._role(role_id))
            self._record(Change.Kind.ROLE, role_id, old, new)
        return new, is_new

    def delete_role(self, role_id: str) -> None:
        """Whoever held it holds it no more. Raises NoSuchRole."""
        with transaction.atomic(using=router.db_for_write(Role)):
            role = self._role(role_id)
            old = role_json(role)
            role.delete()
            self._record(Change.Kind.ROLE, role_id, old, None)

    def put_subject(self, subject_id: str, document: SubjectDocument) -> tuple[dict[str, Any], bool]:
        """(the subject as it now is, whether it is new). Raises Invalid when a role does not exist."""
        with transaction.atomic(using=router.db_for_write(Subject)):
            roles = self._roles_named(document.roles)
            first = {
                "subject_type": document.subject_type,
                "name": document.name,
                "capabilities": list(document.capabilities),
                "is_active": document.is_active,
                "metadata": document.metadata,
            }
            subject, is_new = Subject.objects.get_or_create(org_id=self.org_id, subject_id=subject_id, defaults=first)
            old = None if is_new else subject_json(self._subject(subject_id))
            Subject.objects.filter(pk=subject.pk).update(**first)
            SubjectRole.objects.filter(subject=subject).delete()
            SubjectRole.objects.bulk_create(
                SubjectRole(subject=subject, role=roles[role_id], job_space_id=space)
                for space, role_ids in document.roles.items()
                for role_id in role_ids
            )
            new = subject_json(self._subject(subject_id))
            self._record(Change.Kind.SUBJECT, subject_id, old, new)
        return new, is_new

    def grant(self, subject_id: str, role_ids: Sequence[str], job_space_id: str = "") -> dict[str, Any]:
        """The subject holds these roles in that space, besides what it holds already; as it now is. Raises NoSuchSubject,
        Invalid when a role does not exist."""
        with transaction.atomic(using=router.db_for_write(Subject)):
            subject = self._subject(subject_id)
            old = subject_json(subject)
            roles = self._roles_named({job_space_id: tuple(role_ids)})
            for role in roles.values():
                SubjectRole.objects.get_or_create(subject=subject, role=role, job_space_id=job_space_id)
            new = subject_json(self._subject(subject_id))
            self._record(Change.Kind.SUBJECT, subject_id, old, new)
        return new

    def delete_subject(self, subject_id: str) -> None:
        """Its keys stay; revoke them apart. Raises NoSuchSubject."""
        with transaction.atomic(using=router.db_for_write(Subject)):
            subject = self._subject(subject_id)
            old = subject_json(subject)
            subject.delete()
            self._record(Change.Kind.SUBJECT, subject_id, old, None)

    def _roles_named(self, by_space: Mapping[str, Sequence[str]]) -> dict[str, Role]:
        named = {role_id for role_ids in by_space.values() for role_id in role_ids}
        found = {role.role_id: role for role in Role.objects.filter(org_id=self.org_id, role_id__in=named)}
        missing = sorted(named - set(found))
        if missing:
            known = list(Role.objects.filter(org_id=self.org_id).values_list("role_id", flat=True)[:1000])
            raise Invalid([Problem(field="role_ids", code="unknown_role", message=_unknown(role_id, known)) for role_id in missing[:20]])
        return found

    def _role(self, role_id: str) -> Role:
        return role_of(self.org_id, role_id)

    def _subject(self, subject_id: str) -> Subject:
        return subject_of(self.org_id, subject_id)

    def _record(self, kind: str, key: str, old: Any, new: Any) -> None:
        if old != new:
            directory.changed(self.org_id)
            record(org_id=self.org_id, kind=kind, key=key, old=old, new=new, by=self.by, at=self.now)


def role_of(org_id: str, role_id: str) -> Role:
    """Raises NoSuchRole."""
    role = Role.objects.filter(org_id=org_id, role_id=role_id).prefetch_related("groups").first()
    if role is None:
        raise NoSuchRole()
    return role


def subject_of(org_id: str, subject_id: str) -> Subject:
    """Raises NoSuchSubject."""
    subject = Subject.objects.filter(org_id=org_id, subject_id=subject_id).prefetch_related("roles_held__role").first()
    if subject is None:
        raise NoSuchSubject()
    return subject


def _unknown(role_id: str, known: list[str]) -> str:
    near = difflib.get_close_matches(role_id, known, n=1)
    return f"there is no role '{role_id}'" + (f"; did you mean '{near[0]}'?" if near else "")
