"""Who is asking. `request.user` of every API request is a Principal; everything it may see is its org's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Principal:
    org_id: str
    role: str
    """`submitter`, `operator`, `org_admin` or `agent`"""
    subject_id: str
    """whom the key speaks for; "" when it speaks for the org"""
    key_id: str
    """"" when it is no request of the key's own but the platform's (a schedule, a retry): then `name` says whose doing it is"""
    name: str
    """what people call the key"""
    rate_limit_per_minute: float | None = None
    """the key's own, instead of what the org allows each of its keys"""
    rate_limit_burst: int | None = None

    is_authenticated = True

    @property
    def submitter(self) -> str:
        """Of a task whose entry names none: the subject, or the org itself, by the convention for submitter ids."""
        return f"{self.org_id}:{self.subject_id or self.org_id}"

    @property
    def actor(self) -> str:
        """For histories and audit rows: the subject if there is one, and always the key; without a key, the name signed in with."""
        if not self.key_id:
            return f"{self.subject_id} (signed in as {self.name})" if self.subject_id else self.name
        return f"{self.subject_id} (key {self.key_id})" if self.subject_id else f"key {self.key_id}"
