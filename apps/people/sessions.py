"""A session on the pages, as a principal: the subject that an admin linked the user to."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import SessionAuthentication

from apps.core.auth import Principal
from apps.orgs.access import SUBMITTER
from apps.people.models import Login
from apps.roles.models import Subject


def person_of(user: Any) -> Principal | None:
    """None for a user who is nobody's subject, or whose org or subject is not active."""
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return None
    found = Login.objects.select_related("subject__org").filter(user_id=user.pk).first()
    subject = found.subject if found else None
    if subject is None or not subject.is_active or not subject.org.is_active or subject.subject_type != Subject.Type.HUMAN:
        return None
    return Principal(org_id=subject.org_id, role=SUBMITTER, subject_id=subject.subject_id, key_id="", name=user.get_username())


class PersonSession(SessionAuthentication):
    """For the inbox's API beside the key: the session of a linked user, with Django's CSRF check."""

    def authenticate(self, request: Any) -> tuple[Principal, None] | None:
        principal = person_of(getattr(request._request, "user", None))
        if principal is None:
            return None
        self.enforce_csrf(request._request)  # DRF's own would parse the body for it
        return principal, None


class PersonSessionScheme(OpenApiAuthenticationExtension):
    target_class = "apps.people.sessions.PersonSession"
    name = "Session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": "Signed in at /inbox/; writes need X-CSRFToken."}
