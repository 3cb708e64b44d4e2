"""Checks of config values that only a room above this one can make: does the script exist, does it answer that question?

The rule of a key (`config_keys`) looks at the value alone; a check looks at the world too. Rooms register theirs when
Django has loaded them (`apps.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Check = Callable[[str, str, Any], None]
"""(org_id, key, value); raises an error of our families, which then says why nothing was changed."""

_checks: dict[str, Check] = {}


def register(key: str, check: Check) -> None:
    _checks[key] = check


def run(org_id: str, key: str, value: Any) -> None:
    if key in _checks:
        _checks[key](org_id, key, value)
