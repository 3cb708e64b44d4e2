"""What both sides accept as JSON in a report: small enough to store anywhere, checked before it is sent and
again when it arrives."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 32
MAX_KEYS = 10_000
MAX_TEXT = 2_000
"""Characters of a message, reason or error; longer ones are cut."""
MAX_LEVEL = 16

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def clip(text: str, limit: int = MAX_TEXT) -> str:
    """At most `limit` characters; NUL, which some databases refuse, becomes a space."""
    text = text.replace("\x00", " ")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def json_problem(value: Any) -> str:
    """Why a decoded JSON value cannot be stored, or "". Iterative: deep input cannot exhaust the stack."""
    layer, depth = [value], 0
    while layer:
        depth += 1
        below: list[Any] = []
        for item in layer:
            if item is None or isinstance(item, bool | float):
                continue
            if isinstance(item, int):
                if not _LOWEST <= item <= _HIGHEST:
                    return "a number needs more than 64 bits"
            elif isinstance(item, str):
                if "\x00" in item:
                    return "a string holds a NUL character"
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, dict):
                if len(item) > MAX_KEYS:
                    return f"an object has more than {MAX_KEYS} keys"
                below.extend(item)
                below.extend(item.values())
            else:
                return f"{type(item).__name__} is not JSON"
        if below and depth > MAX_DEPTH:
            return f"it is nested deeper than {MAX_DEPTH} levels"
        layer = below
    return ""
