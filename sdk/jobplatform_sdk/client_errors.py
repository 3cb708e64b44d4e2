"""What can go wrong between a client and the platform: one family, told apart by what the caller can do about it.

ClientError
├── Unreachable        no answer came, for as long as we tried
├── Unavailable        the platform answered that it cannot answer now (429, 5xx), for as long as we tried
├── BadAnswer          what answered is not the platform, or a broken one
├── NotEnded           `wait` ran out of time; the task goes on
└── Refused            the platform understood and said no; the same request will be refused again
    ├── Invalid          400, 413, 415, 422: see `errors`
    ├── Unauthenticated  401
    ├── Forbidden        403
    ├── NotFound         404
    └── Conflict         409
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """One thing wrong with the input. `field` is a dotted path into it, "" for the whole of it."""

    field: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.field or '(entry)'}: {self.message}"


class ClientError(Exception):
    """Base of the family.

    status      HTTP status, 0 when there was no answer
    code        short name for programs
    sentence    for people
    errors      every field error
    request_id  names this request in the platform's log
    retry_after seconds after which the platform asked to be asked again, or None
    facts       what else the answer said
    """

    def __init__(
        self,
        sentence: str,
        *,
        status: int = 0,
        code: str = "error",
        errors: tuple[FieldError, ...] = (),
        request_id: str = "",
        retry_after: float | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status, self.code, self.errors = status, code, errors
        self.request_id, self.retry_after, self.facts = request_id, retry_after, facts or {}

    def __str__(self) -> str:
        return " ".join([self.sentence, "; ".join(map(str, self.errors))]).strip()

    def json(self) -> dict[str, Any]:
        """For machine output."""
        errors = [{"field": error.field, "code": error.code, "message": error.message} for error in self.errors]
        return {"status": self.status, "code": self.code, "message": self.sentence, "errors": errors, "request_id": self.request_id}


class Unreachable(ClientError):
    """No answer. Whether the request was carried out is unknown; asking again with the same task_id is safe."""


class Unavailable(ClientError):
    pass


class BadAnswer(ClientError):
    pass


class NotEnded(ClientError, TimeoutError):
    pass


class Refused(ClientError):
    pass


class Invalid(Refused):
    pass


class Unauthenticated(Refused):
    pass


class Forbidden(Refused):
    pass


class NotFound(Refused):
    pass


class Conflict(Refused):
    pass


BY_STATUS: dict[int, type[ClientError]] = {
    400: Invalid, 401: Unauthenticated, 403: Forbidden, 404: NotFound, 409: Conflict,
    413: Invalid, 415: Invalid, 422: Invalid, 429: Unavailable,
}  # fmt: skip


def family_of(status: int) -> type[ClientError]:
    if status >= 500:
        return Unavailable
    return BY_STATUS.get(status, Refused if status >= 400 else BadAnswer)
