"""Who gets in (API keys as bearer tokens) and what they may do (roles).

Roles form a ladder: an org admin may do what an operator may, an operator what a submitter may. Agents stand
beside it: only what names them lets them in. Every query behind the door is filtered by the principal's org.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission

from apps.core import logs
from apps.core.auth import Principal
from apps.core.errors import Forbidden, Unauthenticated
from apps.orgs import keys
from apps.orgs.keys import AGENT, OPERATOR, ORG_ADMIN, SUBMITTER

_ADMITS = {
    SUBMITTER: {SUBMITTER, OPERATOR, ORG_ADMIN},
    OPERATOR: {OPERATOR, ORG_ADMIN},
    ORG_ADMIN: {ORG_ADMIN},
    AGENT: {AGENT},
}


def principal_of(request: Any) -> Principal:
    """For views that are not DRF's. Raises Unauthenticated."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated()
    return keys.ring.verify(token.strip())


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <key>`. No header: nobody (and only public views let nobody in); a bad one: 401."""

    def authenticate(self, request: Any) -> tuple[Principal, str] | None:
        if "HTTP_AUTHORIZATION" not in request.META:
            return None
        principal = principal_of(request)
        logs.add(org=principal.org_id)
        return principal, principal.key_id

    def authenticate_header(self, request: Any) -> str:
        return "Bearer"


class RequireRole(BasePermission):
    """`permission_classes = [RequireRole("submitter", POST="org_admin")]`: the lowest role that may, and exceptions by method.

    An instance stands where DRF expects a class; "calling" it gives itself.
    """

    def __init__(self, *roles: str, **by_method: str) -> None:
        self._admitted = frozenset().union(*(_ADMITS[role] for role in roles))
        self._by_method = {method: frozenset(_ADMITS[role]) for method, role in by_method.items()}

    def __call__(self) -> RequireRole:
        return self

    def has_permission(self, request: Any, view: Any) -> bool:
        principal = request.user
        if not isinstance(principal, Principal):
            raise Unauthenticated()
        if principal.role not in self._by_method.get(request.method, self._admitted):
            raise Forbidden()
        return True


class AdminsOnly(RequireRole):
    """The default of a view that says nothing: closed to all but the org's admins."""

    def __init__(self) -> None:
        super().__init__(ORG_ADMIN)


class ApiKeyScheme(OpenApiAuthenticationExtension):
    target_class = "apps.orgs.access.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key, as `manage.py create_api_key` printed it."}
