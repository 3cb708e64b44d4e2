"""Looks for secrets in any text: known shapes, and assignments whose value is too random to be prose. What it finds is redacted."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from demo.agents.runtime import run

KEPT = 20
"""Findings listed; all are counted."""
MIN_ENTROPY = 3.2
"""Bits a character; English words are near 2.6, random base64 of 20 characters near 4."""

KNOWN = (
    ("private key", re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")),
    ("AWS access key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("GitHub token", re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}\b")),
    ("Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("Stripe key", re.compile(r"\b[rs]k_live_[A-Za-z0-9]{16,}\b")),
    ("signed token", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")),
    ("password in a URL", re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>{}$]+:([^\s/:@\"'<>{}$]{3,})@")),
)
_ASSIGNED = re.compile(
    r"(?i)\b[\w.-]{0,40}(?:password|passwd|secret|token|api[_-]?key|access[_-]?key)[\w-]{0,20}[\"']?\s*[:=]\s*[\"']?([^\s\"',;(){}<>$]{8,200})"
)


def analyse(data: bytes, path: Path, root: Path) -> dict[str, Any]:
    """Findings of one file, line by line; bytes that are not UTF-8 hide nothing around them."""
    findings: list[dict[str, Any]] = []
    lines = data.decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        findings += [{"line": number, "kind": kind, "redacted": redact(value)} for kind, value in secrets_in(line)]
    kinds = Counter(finding["kind"] for finding in findings)
    said = ", ".join(f"{count} × {kind}" for kind, count in sorted(kinds.items()))
    return {
        "summary": f"{said}, first in line {findings[0]['line']}" if findings else f"nothing found in {len(lines)} lines",
        "lines": len(lines),
        "count": len(findings),
        "findings": findings[:KEPT],
    }


def secrets_in(line: str) -> list[tuple[str, str]]:
    """(kind, the secret) of what a line gives away; a value is told once, by its most telling shape."""
    found = [(kind, match[match.lastindex or 0]) for kind, pattern in KNOWN for match in pattern.finditer(line)]
    told = " ".join(value for _, value in found)
    found += [
        ("random value", match[1])
        for match in _ASSIGNED.finditer(line)
        if match[1] not in told and any(map(str.isdigit, match[1])) and entropy(match[1]) >= MIN_ENTROPY
    ]
    return found


def entropy(text: str) -> float:
    """Shannon's, in bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values()) if text else 0.0


def redact(secret: str) -> str:
    """Enough to find it again, not enough to use it."""
    return f"{secret[:4]}… ({len(secret)} characters)" if len(secret) >= 12 else f"… ({len(secret)} characters)"


if __name__ == "__main__":
    run(analyse)
