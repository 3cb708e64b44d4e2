"""Who could do it: the subjects of one org that hold a role of some type in some job space."""

from __future__ import annotations

from dataclasses import dataclass

from apps.roles.models import EVERY_SPACE, SubjectRole


@dataclass(frozen=True, kw_only=True)
class CandidateSubject:
    subject_id: str
    subject_type: str
    role_ids: tuple[str, ...]
    """The roles that make it a candidate, sorted."""
    capabilities: tuple[str, ...]


class RoleDirectory:
    def __init__(self, org_id: str) -> None:
        self.org_id = org_id

    def candidates(self, role_type: str, job_space_id: str = EVERY_SPACE) -> list[CandidateSubject]:
        """Active subjects holding a role of `role_type` that counts in `job_space_id`, sorted by id; one query.

        Both the role and the holding of it must be of that space or of every space. Work without a space finds
        only what counts in every space.
        """
        spaces = [EVERY_SPACE, job_space_id]
        held = (
            SubjectRole.objects.filter(subject__org_id=self.org_id, subject__is_active=True, job_space_id__in=spaces)
            .filter(role__org_id=self.org_id, role__role_type=role_type, role__job_space_id__in=spaces)
            .values_list("subject__subject_id", "subject__subject_type", "subject__capabilities", "role__role_id")
        )
        found: dict[str, tuple[str, tuple[str, ...], set[str]]] = {}
        for subject_id, subject_type, capabilities, role_id in held:
            found.setdefault(subject_id, (subject_type, tuple(capabilities), set()))[2].add(role_id)
        return [
            CandidateSubject(subject_id=subject_id, subject_type=kind, role_ids=tuple(sorted(roles)), capabilities=capabilities)
            for subject_id, (kind, capabilities, roles) in sorted(found.items())
        ]
