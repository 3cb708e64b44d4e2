"""Bodies and queries of the agents' API, read strictly."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from apps.agents import cards
from apps.agents.cards import Card
from apps.agents.enrolment import KEY_LIFE_MAX_SECONDS, KEY_LIFE_MIN_SECONDS, LIFE_MAX_SECONDS, LIFE_SECONDS, Invitation
from apps.core.errors import Invalid, Malformed, Problem
from apps.roles.rules import MAX_ID, id_problem

REASON_LENGTH, NAME_LENGTH, ROLES_MAX = 1000, 200, 100
LIMIT_DEFAULT, LIMIT_MAX = 50, 200
INVITATION = ("subject_id", "role_ids", "job_space_id", "name", "expires_in_s", "key_lifetime_s")


class BadQuery(Invalid):
    status, code, sentence = 400, "bad_query", "The query string is not valid."


class BadCursor(Malformed):
    code, sentence = "bad_cursor", "The cursor is not one of ours."


def read_reason(body: dict[str, Any]) -> str:
    problems = _unknown(body, ("reason",))
    reason = _text(body.get("reason", ""), "reason", REASON_LENGTH, problems)
    if problems:
        raise Invalid(problems)
    return reason


def read_invitation(body: dict[str, Any]) -> Invitation:
    problems = _unknown(body, INVITATION)
    if "subject_id" not in body:
        problems.append(Problem(field="subject_id", code="missing", message="is required"))
    elif wrong := id_problem(body["subject_id"]):
        problems.append(Problem(field="subject_id", code="wrong", message=wrong))
    role_ids = body.get("role_ids", [])
    if not isinstance(role_ids, list) or len(role_ids) > ROLES_MAX:
        problems.append(Problem(field="role_ids", code="wrong_type", message=f"must be a list of at most {ROLES_MAX}"))
        role_ids = []
    for index, role_id in enumerate(role_ids):
        if wrong := id_problem(role_id, most=MAX_ID):
            problems.append(Problem(field=f"role_ids.{index}", code="wrong", message=wrong))
    space = body.get("job_space_id", "")
    if space != "" and (wrong := id_problem(space)):
        problems.append(Problem(field="job_space_id", code="wrong", message=wrong))
    name = _text(body.get("name", ""), "name", NAME_LENGTH, problems)
    expires = _whole(body.get("expires_in_s", LIFE_SECONDS), "expires_in_s", 1, LIFE_MAX_SECONDS, problems)
    lifetime = body.get("key_lifetime_s")
    if lifetime is not None:
        lifetime = _whole(lifetime, "key_lifetime_s", KEY_LIFE_MIN_SECONDS, KEY_LIFE_MAX_SECONDS, problems)
    if problems:
        raise Invalid(problems)
    return Invitation(
        subject_id=body["subject_id"], role_ids=tuple(dict.fromkeys(role_ids)), job_space_id=space, name=name,
        expires_in_s=expires, key_lifetime_s=lifetime,
    )  # fmt: skip


def read_redemption(body: dict[str, Any]) -> Card | None:
    if problems := _unknown(body, ("card",)):
        raise Invalid(problems)
    return cards.read_card(body["card"]) if "card" in body else None


def read_page(params: Any, *filters: str) -> tuple[int, str]:
    """(limit, id after which the page begins) from a query string."""
    known = {"limit", "cursor", *filters}
    problems = [Problem(field=name[:80], code="unknown", message="is not a filter") for name in params if name not in known]
    problems += [Problem(field=name[:80], code="repeated", message="may be given once") for name in params if len(params.getlist(name)) > 1]
    text = params.get("limit", str(LIMIT_DEFAULT))
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= LIMIT_MAX):
        problems.append(Problem(field="limit", code="bad_value", message=f"must be a whole number from 1 to {LIMIT_MAX}"))
    if problems:
        raise BadQuery(problems)
    return int(text), _read_cursor(params["cursor"]) if "cursor" in params else ""


def cursor(after: str) -> str:
    return base64.urlsafe_b64encode(after.encode()).rstrip(b"=").decode()


def _read_cursor(text: str) -> str:
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise BadCursor() from None
    if not found or len(found) > MAX_ID or "\x00" in found:
        raise BadCursor()
    return found


def _unknown(body: dict[str, Any], known: tuple[str, ...]) -> list[Problem]:
    return [Problem(field=name[:64], code="unknown", message="is not known here") for name in body if name not in known]


def _text(value: Any, field: str, most: int, problems: list[Problem]) -> str:
    if isinstance(value, str) and len(value) <= most and value.isprintable():
        return value
    problems.append(Problem(field=field, code="wrong", message=f"must be a string of at most {most} printable characters"))
    return ""


def _whole(value: Any, field: str, least: int, most: int, problems: list[Problem]) -> int:
    if type(value) is int and least <= value <= most:
        return value
    problems.append(Problem(field=field, code="out_of_range", message=f"must be a whole number from {least} to {most}"))
    return least
