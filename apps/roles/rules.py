"""What an id of a role, a subject, a group or a job space may be."""

from __future__ import annotations

import unicodedata
from typing import Any

from django.core.exceptions import ValidationError

MAX_ID = 180


def id_problem(value: Any, *, most: int = MAX_ID) -> str | None:
    """Ids may hold any printable character; what looks the same must be the same."""
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        return f"must be a string of 1 to {most} characters"
    if not value.isprintable() or value != value.strip():
        return "must be printable, without spaces at the ends"
    if unicodedata.normalize("NFC", value) != value:
        return "must be in Unicode normal form C"
    return None


def plain_id(value: str) -> None:
    """The same for model fields and forms."""
    problem = id_problem(value)
    if problem:
        raise ValidationError(f"An id {problem}.")
