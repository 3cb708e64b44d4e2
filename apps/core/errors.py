"""Families of errors. A class stands beside the code that raises it and says one fixed sentence;
the facts are attributes. The family knows the HTTP status and whether trying again can help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with an input. `field` is a dotted path into it ("" is the whole of it)."""

    field: str
    code: str
    message: str

    def json(self) -> dict[str, str]:
        return {"field": self.field, "code": self.code, "message": self.message}


class PlatformError(Exception):
    """Base of every error that has an answer. `sentence` is for people, `code` for programs."""

    status = 500
    code = "error"
    sentence = "Something went wrong."
    retry_helps = False
    shown: tuple[str, ...] = ()
    """Facts that go into the answer; the others are for the log."""

    def __init__(self, sentence: str | None = None, **facts: Any) -> None:
        self.sentence = sentence or type(self).sentence
        self.facts = facts
        super().__init__(self.sentence)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={value!r}" for name, value in self.facts.items())
        return f"{self.sentence} ({facts})" if facts else self.sentence


class Malformed(PlatformError):
    """The bytes are not what they claim to be."""

    status, code, sentence = 400, "malformed", "The request is malformed."


class Unauthenticated(PlatformError):
    status, code, sentence = 401, "unauthenticated", "A valid API key is required."


class Forbidden(PlatformError):
    status, code, sentence = 403, "forbidden", "This key's role does not allow that."


class Missing(PlatformError):
    status, code, sentence = 404, "not_found", "Not found."


class Conflict(PlatformError):
    status, code, sentence = 409, "conflict", "The request conflicts with the present state."


class TooLarge(PlatformError):
    status, code, sentence = 413, "too_large", "The request body is too large."


class UnsupportedMedia(PlatformError):
    status, code, sentence = 415, "unsupported_media_type", "The body must be application/json."


class Invalid(PlatformError):
    """The input is understood and wrong. Carries every problem found, not just the first."""

    status, code, sentence = 422, "invalid", "The input is not valid."

    def __init__(self, problems: list[Problem], sentence: str | None = None, **facts: Any) -> None:
        self.problems = problems
        super().__init__(sentence, **facts)

    def __str__(self) -> str:
        return f"{self.sentence} " + "; ".join(f"{p.field or '(body)'}: {p.message}" for p in self.problems)


class Refused(PlatformError):
    """A policy said no."""

    status, code, sentence, shown = 422, "refused", "The task was refused.", ("reason", "task_id")


class Unassignable(PlatformError):
    status, code, sentence, shown = 409, "unassignable", "No agent could be assigned", ("reason", "task_id")


class Unavailable(PlatformError):
    """A dependency is away; the same request may succeed later."""

    status, code, sentence, retry_helps = 503, "unavailable", "The platform cannot answer right now.", True
    retry_after_seconds = 2
