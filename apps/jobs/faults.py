"""What an exception of a job's method says of it: in one sentence, with the HTTP status that it stands for, field by field, and whether
trying again can help. Frameworks' exceptions are known by their shapes: a worker loads the framework that its job needs, no other."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied, ValidationError
from django.http import Http404

from apps.core.errors import Invalid, PlatformError, Problem
from apps.jobs import results
from apps.jobs.states import Reason

MAX_PROBLEMS = 100
PASSING = frozenset({408, 425, 429})
"""Of the 4xx, those that may be another answer later."""
CODE_LENGTH = 48


@dataclass(frozen=True, kw_only=True)
class Fault:
    code: str
    sentence: str
    status: int | None = None
    """None: the exception stands for no answer."""
    problems: tuple[Problem, ...] = ()
    retry_helps: bool = True

    @property
    def fields(self) -> dict[str, Any]:
        """The columns of a job that say what HTTP would."""
        return {"result_status": self.status, "errors": [each.json() for each in self.problems] or None}


def of(error: BaseException) -> Fault:
    code, status, problems = _known(error)
    problems = [_clean(each) for each in problems[:MAX_PROBLEMS]]
    # Whoever raises it may know better: `retry_helps` on the exception or its class.
    helps = getattr(error, "retry_helps", None)
    if helps is None:
        # An SDK's errors carry the status of somebody else's answer; it is no answer of ours, but a no is a no.
        helps = not _says_no(status) if status is not None else getattr(error, "status", 500) not in (401, 403, 404)
    sentence = results.sentence(error) if not problems or isinstance(error, Invalid) else _sentence(problems)
    if status is not None and not problems and not isinstance(error, PlatformError):
        sentence = results.line(str(getattr(error, "detail", error))) or sentence
    return Fault(code=code[:CODE_LENGTH], sentence=sentence, status=status, problems=tuple(problems), retry_helps=bool(helps))


def problems_of(errors: Any, path: str = "") -> list[Problem]:
    """What DRF's serializers say, and what a `ValidationError` of its holds: texts in lists in mappings, as deep as the data."""
    if isinstance(errors, Mapping):
        return [each for name, inner in errors.items() for each in problems_of(inner, _below(path, name))]
    if isinstance(errors, (list, tuple)):
        if any(isinstance(each, (Mapping, list, tuple)) for each in errors):
            return [each for index, inner in enumerate(errors) for each in problems_of(inner, _below(path, index))]
        return [each for text in errors for each in problems_of(text, path)]
    return [Problem(field=path, code=getattr(errors, "code", None) or "wrong", message=str(errors))]


def _known(error: BaseException) -> tuple[str, int | None, list[Problem]]:
    """(code, status, problems)"""
    if isinstance(error, PlatformError):
        # A method that is gone is nobody's 404.
        status = None if error.code == Reason.NOT_FOUND else error.status
        return error.code, status, error.problems if isinstance(error, Invalid) else []
    drf = sys.modules.get("rest_framework.exceptions")
    if drf is not None and isinstance(error, drf.APIException):
        detail, code = error.detail, error.default_code
        if isinstance(detail, (Mapping, list, tuple)):
            return code, error.status_code, problems_of(detail)
        return getattr(detail, "code", None) or code, error.status_code, []
    if isinstance(error, ValidationError):
        return "invalid", 400, _of_django(error)
    if isinstance(error, PermissionDenied):
        return "permission_denied", 403, []
    if isinstance(error, Http404):
        return "not_found", 404, []
    status = getattr(error, "status_code", None)
    starlette = sys.modules.get("starlette.exceptions")
    if starlette is not None and isinstance(error, starlette.HTTPException):
        return "http_error", status, []
    return results.code(error), None, []


def _of_django(error: ValidationError) -> list[Problem]:
    by_field = error.error_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.error_list}
    return [
        Problem(field="" if name == NON_FIELD_ERRORS else name, code=each.code or "invalid", message=message)
        for name, each_field in by_field.items() for each in each_field for message in each.messages
    ]  # fmt: skip


def _says_no(status: int) -> bool:
    return 400 <= status < 500 and status not in PASSING


def _below(path: str, name: Any) -> str:
    return path if name == "non_field_errors" else f"{path}.{name}".strip(".")


def _clean(problem: Problem) -> Problem:
    return Problem(field=problem.field[:200], code=str(problem.code)[:CODE_LENGTH], message=results.line(problem.message))


def _sentence(problems: list[Problem]) -> str:
    first = "; ".join(f"{each.field}: {each.message}" if each.field else each.message for each in problems[:3])
    return results.line(f"{Invalid.sentence} {first}{f' (and {len(problems) - 3} more)' if len(problems) > 3 else ''}")
