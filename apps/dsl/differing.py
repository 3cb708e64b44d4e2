"""What changed between two versions of a script: its text line by line, and its tests by name."""

from __future__ import annotations

import difflib
from typing import Any

from apps.dsl.models import PolicyScript
from apps.dsl.script_tests import same

CONTEXT_LINES = 3


def text_diff(old: PolicyScript, new: PolicyScript) -> list[str]:
    """The lines of a unified diff; none when the texts are the same."""
    names = (f"{each.script_id}@{each.version}" for each in (old, new))
    return list(difflib.unified_diff(old.source.splitlines(), new.source.splitlines(), *names, n=CONTEXT_LINES, lineterm=""))


def comparison(old: PolicyScript, new: PolicyScript) -> dict[str, Any]:
    lines = text_diff(old, new)
    before, after = ({case["name"]: case for case in each.tests} for each in (old, new))
    return {
        "diff": "\n".join(lines) + "\n" if lines else "",
        "added": sum(line.startswith("+") for line in lines[2:]),
        "removed": sum(line.startswith("-") for line in lines[2:]),
        "tests": {
            "added": [name for name in after if name not in before],
            "removed": [name for name in before if name not in after],
            "changed": [name for name in after if name in before and not same(before[name], after[name])],
        },
    }
