"""Who could do it: the subjects of one org that hold a role of some type in some job space. The one door to role services.

`directory(org_id, config)` asks the org's own tables or, when its configuration names role services, those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol

import orjson
from django.db import router, transaction
from django.db.models import TextField
from django.db.models.functions import Cast

from apps.core.remembered import Remembered
from apps.orgs.config_store import OrgConfig
from apps.roles.models import EVERY_SPACE, Role, Subject, SubjectRole
from apps.roles.services import RoleServices, RolesUnknown, known_here


@dataclass(frozen=True, kw_only=True)
class CandidateSubject:
    subject_id: str
    subject_type: str
    role_ids: tuple[str, ...]
    """The roles that make it a candidate, sorted."""
    capabilities: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Found:
    subjects: list[CandidateSubject]
    unknown: str = ""
    """Why nobody can say who may do it; then `subjects` is empty and means nothing."""
    source: dict[str, Any] = field(default_factory=lambda: {"from": "tables"})
    """How we know, for the record of a decision."""


_known: Remembered[dict[tuple[str, str], Found]] = Remembered("roles")
"""By role type and job space, as each is first asked for."""


def changed(org_id: str) -> None:
    """Roles, subjects or who holds what changed: after the commit nobody believes what he read before."""
    transaction.on_commit(lambda: _known.changed(org_id), using=router.db_for_write(Subject))


def row_changed(instance: Role | Subject | SubjectRole, origin: Any = None, **_signal: Any) -> None:
    """Connected to the saving and deleting of each row (`apps.py`); updates in bulk say it themselves."""
    if not isinstance(instance, SubjectRole):
        changed(instance.org_id)
    elif origin is None or getattr(origin, "model", type(origin)) is SubjectRole:  # else its role or subject goes too, and says it
        changed(instance.subject.org_id)


class Directory(Protocol):
    def find(self, role_type: str, job_space_id: str = EVERY_SPACE, *, now: datetime) -> Found:
        """Sorted by id. Never raises for a role service that fails: `unknown` says so."""
        ...


class RoleDirectory:
    """The org's own tables. `find` is asked before every batch, and remembers what it found until something changes."""

    def __init__(self, org_id: str) -> None:
        self.org_id = org_id

    def find(self, role_type: str, job_space_id: str = EVERY_SPACE, *, now: datetime) -> Found:
        if transaction.get_connection(router.db_for_read(SubjectRole)).in_atomic_block:
            return Found(subjects=self.candidates(role_type, job_space_id))  # it may have changed them itself
        known = _known.of(self.org_id, dict)
        asked = (role_type, job_space_id)
        if asked not in known:
            known[asked] = Found(subjects=self.candidates(role_type, job_space_id))
        return known[asked]

    def candidates(self, role_type: str, job_space_id: str = EVERY_SPACE) -> list[CandidateSubject]:
        """Active subjects holding a role of `role_type` that counts in `job_space_id`, sorted by id; one query.

        Both the role and the holding of it must be of that space or of every space. Work without a space finds
        only what counts in every space.
        """
        spaces = [EVERY_SPACE, job_space_id]
        held = (
            SubjectRole.objects.filter(subject__org_id=self.org_id, subject__is_active=True, job_space_id__in=spaces)
            .filter(role__org_id=self.org_id, role__role_type=role_type, role__job_space_id__in=spaces)
            # As text: Django would parse a thousand lists of capabilities, most of them the same.
            .annotate(words=Cast("subject__capabilities", TextField()))
            .values_list("subject__subject_id", "subject__subject_type", "words", "role__role_id")
        )
        found: dict[str, tuple[str, tuple[str, ...], set[str]]] = {}
        for subject_id, subject_type, words, role_id in held:
            if subject_id in found:
                found[subject_id][2].add(role_id)
            else:
                found[subject_id] = (subject_type, _capabilities(words), {role_id})
        return [
            CandidateSubject(subject_id=subject_id, subject_type=kind, role_ids=tuple(sorted(roles)), capabilities=capabilities)
            for subject_id, (kind, capabilities, roles) in sorted(found.items())
        ]


@lru_cache(maxsize=4096)
def _capabilities(text: str) -> tuple[str, ...]:
    return tuple(orjson.loads(text))


class ServiceDirectory:
    """Role services. What our own tables know of a subject still counts: an inactive one is never chosen."""

    def __init__(self, services: RoleServices) -> None:
        self._services = services

    def find(self, role_type: str, job_space_id: str = EVERY_SPACE, *, now: datetime) -> Found:
        try:
            known = self._services.holders(role_type, job_space_id, now=now)
        except RolesUnknown as unknown:
            return Found(subjects=[], unknown=unknown.sentence, source={"from": "service", "problem": unknown.sentence})
        ours = known_here(self._services.org_id, [holder.subject_id for holder in known.holders])
        subjects = []
        for holder in known.holders:
            active, capabilities = ours.get(holder.subject_id, (True, ()))
            if active:
                subjects.append(
                    CandidateSubject(
                        subject_id=holder.subject_id, subject_type=holder.subject_type, role_ids=holder.role_ids, capabilities=capabilities
                    )
                )
        return Found(subjects=subjects, source=known.source())


def is_let_go(org_id: str, subject_id: str) -> bool:
    """Our own tables know this subject, and say that it is not active. One query."""
    return Subject.objects.filter(org_id=org_id, subject_id=subject_id, is_active=False).exists()


def directory(org_id: str, config: OrgConfig) -> Directory:
    if config.role_group_url or config.subject_roles_url:
        return ServiceDirectory(RoleServices(org_id, config))
    return RoleDirectory(org_id)
