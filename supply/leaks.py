"""Secrets that were written into the project: `python -m supply.leaks [--history]`.

Tracked files are looked through by the tests, every line that any commit ever added by `make audit`. What is found is told by its
place and its fingerprint, never itself.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jobplatform.env import BASE_DIR

KINDS = {
    "private key": ("PRIVATE KEY", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*[A-Za-z0-9+/=]{16}"),
    "AWS key": ("AKIA ASIA", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "GitHub token": ("ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})"),
    "GitLab token": ("glpat-", r"\bglpat-[A-Za-z0-9_-]{20}"),
    "Slack token": ("xox", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    "Stripe key": ("k_live_", r"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    "Google key": ("AIza", r"\bAIza[0-9A-Za-z_-]{35}"),
    "model provider's key": ("sk-", r"\bsk-(?:[a-z]+-)*[A-Za-z0-9_-]{32,}"),
    "package index token": ("pypi-AgE npm_", r"\b(?:pypi-AgE[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{36})"),
    "JWT": ("eyJ", r"\beyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{20,}"),
    "NATS seed": ("SA SC SN SO SU", r"\bS[ACNOU][A-Z2-7]{56}\b"),
    "key of this platform": ("jp_", r"\bjp_[A-Za-z0-9]{4,24}_[A-Za-z0-9_-]{40,}"),
    "webhook secret": ("whsec_", r"\bwhsec_[A-Za-z0-9+/]{32,}={0,2}"),
    "password in an address": ("://", r"[a-z][a-z0-9+.-]*://[^\s/:@'\"{}$<>]*:(?P<secret>[^\s/:@'\"{}$<>]{12,})@"),
    "password": ("", r"(?i)(?:passw(?:or)?d|secret(?:_key)?|token|api_?key)[\"']?\s*[:=]\s*[\"'](?P<secret>[A-Za-z0-9+/_=-]{24,})[\"']"),
}
"""Kind -> words, one of which stands in any text that holds one (looking for a word is quick), and what it looks like."""
PATTERNS = {kind: (words.split() or [""], re.compile(pattern)) for kind, (words, pattern) in KINDS.items()}
VARIETY = 12
"""What a loose pattern finds is a secret with so many different characters, both letters and digits; words and examples have fewer."""

KNOWN = {
    "1a5d44a2dca19669": "the key that AWS itself prints in its documentation, for the demo's secret scanner to find",
    "26c46500c90bc4e4": "a test's secret, which says so: the-org-and-its-service-know-it",
    "6157bac6a5fad0f7": "an example of the Standard Webhooks specification, twice",
}
"""Fingerprint -> why it is none. What the history holds stays in it; a new one is better written another way."""


@dataclass(frozen=True, kw_only=True)
class Leak:
    kind: str
    place: str
    fingerprint: str


def leaks(texts: Iterable[tuple[str, str]]) -> Iterator[Leak]:
    """`texts`: pairs of a place, such as the name of a file, and what stands there."""
    for place, text in texts:
        for kind, (words, pattern) in PATTERNS.items():
            for match in pattern.finditer(text) if any(word in text for word in words) else ():
                secret = match.groupdict().get("secret")
                if secret is not None and not _random(secret):
                    continue
                fingerprint = hashlib.sha256((secret or match[0]).encode()).hexdigest()[:16]
                if fingerprint not in KNOWN:
                    line = text.count("\n", 0, match.start()) + 1
                    yield Leak(kind=kind, place=f"{place}:{line}", fingerprint=fingerprint)


def _random(text: str) -> bool:
    return len(set(text)) >= VARIETY and any(mark.isdigit() for mark in text) and any(mark.isalpha() for mark in text)


def tree() -> Iterator[tuple[str, str]]:
    """Every tracked text file. The locks are hashes from end to end."""
    for name in _git("ls-files", "-z").rstrip("\0").split("\0"):
        path = BASE_DIR / name
        if path.is_file() and path.suffix != ".lock":
            yield name, path.read_bytes().decode(errors="replace")


def history() -> Iterator[tuple[str, str]]:
    """What each commit on any branch ever added to each file."""
    place, added = "", []
    for line in _git("log", "--all", "--no-color", "--unified=0", "--format=commit %h", "-p", "--", ".", ":!*.lock").splitlines():
        if line.startswith("commit "):
            commit = line.removeprefix("commit ")
        elif line.startswith("+++ "):
            yield place, "\n".join(added)
            place, added = f"{commit}:{line.removeprefix('+++ b/')}", []
        elif line.startswith("+"):
            added.append(line[1:])
    yield place, "\n".join(added)


def _git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=BASE_DIR, capture_output=True, check=True)  # noqa: S603, S607 -- fixed words, the developer's git
    return run.stdout.decode(errors="replace")


def main() -> int:
    found = list(leaks(history() if "--history" in sys.argv[1:] else tree()))
    for leak in found:
        print(f"{leak.place}: {leak.kind} ({leak.fingerprint})")
    print(f"{len(found)} secrets found" if found else "no secrets found")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
