"""Who submits a job, as text in its row (`Job.owner`), and that person again when it runs.

`key:<id>` an API key of an org, `user:<pk>` a Django user, `name:<identity>` a user that only another framework knows,
"" nobody. Whoever lost the right to come in since has no jobs run in his name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model

from apps.core.auth import Principal
from apps.core.errors import Forbidden, Unauthenticated
from apps.jobs.calls import ANYBODY, Owner
from apps.orgs.keys import OPERATOR, ORG_ADMIN, ring

MAX_NAME = 120


class NoLonger(Forbidden):
    sentence = "Whoever submitted this job may no longer do so."


@dataclass(frozen=True)
class NamedUser:
    """In a worker: a user of a framework whose accounts we cannot look up."""

    identity: str
    is_authenticated = True
    is_active = True

    @property
    def username(self) -> str:
        return self.identity

    display_name = username


def owner_of(user: Any) -> Owner:
    """`user`: what the framework calls request.user, or None."""
    if user is None or not getattr(user, "is_authenticated", False):
        return ANYBODY
    if isinstance(user, Principal):
        if not user.key_id:
            raise Forbidden("Jobs are submitted with an API key.")
        operates = user.role in (OPERATOR, ORG_ADMIN)
        return Owner(org_id=user.org_id, key=f"key:{user.key_id}", actor=user.actor, operates=operates)
    if getattr(user, "pk", None) is not None:
        return Owner(key=f"user:{user.pk}", actor=str(user)[:255])
    identity = next((name for attribute in ("username", "display_name") if (name := getattr(user, attribute, ""))), "")
    if not identity:
        raise Forbidden("This user has no name that a job could be kept under.")
    # Cut names must not meet.
    short = identity if len(identity) <= MAX_NAME else f"{identity[:40]}…{hashlib.sha256(identity.encode()).hexdigest()}"
    return Owner(key=f"name:{short}", actor=identity[:255])


def load(ref: str) -> Any:
    """The user behind `Job.owner`, as he is now; None for nobody. Raises NoLonger."""
    kind, _, name = ref.partition(":")
    if kind == "key":
        try:
            return ring.holder(name)
        except Unauthenticated:
            raise NoLonger(owner=ref) from None
    if kind == "user":
        user = get_user_model()._default_manager.filter(pk=name).first()
        if user is None or not user.is_active:
            raise NoLonger(owner=ref)
        return user
    return NamedUser(name) if kind == "name" else None
