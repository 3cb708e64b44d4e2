"""Names on the wire, in one place for both sides: NATS subjects, streams, durables, inboxes.

Ids may hold any character; a NATS token may not. `encode` keeps letters, digits, `_` and `-` and writes every
other UTF-8 byte as `=XX`, so an id can never add a dot, a wildcard or a line break to a subject, and `decode`
gives back exactly what went in. An agent is one token: its org and its subject id together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

DELIVERIES = "DELIVERIES"
"""Stream of tasks on their way to agents; one durable per agent, named by its token."""
REPORTS = "REPORTS"
"""Stream of what agents say; one durable shared by all listener copies."""
LISTENER = "listener"

ALL_DELIVERIES = "agents.*.tasks"
ALL_REPORTS = "tasks.*.*.events.*"
ALL_HEARTBEATS = "agents.*.heartbeat"

TOKEN_MAX = 250
"""JetStream names a durable's directory by the token, and file names end at 255 bytes."""

_OURS = frozenset({"agents", "tasks", "events"})
_NAME = re.compile(r"[^\s.*>\x00-\x20\x7f]+(?:\.[^\s.*>\x00-\x20\x7f]+)*")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_OTHER_BYTE = re.compile(rb"[^A-Za-z0-9_-]")
_ENCODED = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2})+")
_ESCAPE = re.compile(rb"=([0-9A-F]{2})")


def encode(text: str) -> str:
    """One subject token. ValueError when empty or not UTF-8 (a lone surrogate)."""
    if _PLAIN.fullmatch(text):
        return text
    if not text:
        raise ValueError("An empty id has no subject token.")
    return _OTHER_BYTE.sub(lambda match: b"=%02X" % match[0][0], text.encode()).decode("ascii")


def decode(token: str) -> str:
    """The text behind a token. ValueError when `encode` could not have written it."""
    if _PLAIN.fullmatch(token):
        return token
    if not _ENCODED.fullmatch(token):
        raise ValueError("Not a subject token.")
    text = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), token.encode("ascii")).decode()
    if encode(text) != token:  # `=41` for `A`: two tokens for one id would be two identities
        raise ValueError("Not a subject token.")
    return text


@lru_cache(maxsize=4096)
def agent_token(org_id: str, subject_id: str) -> str:
    """The one token of an agent: its durable, its inbox, the end of its report subjects.

    The org must not hold a colon (org ids never do). ValueError when the pair is too long to name a durable.
    """
    if not org_id or not subject_id or ":" in org_id:
        raise ValueError("An agent needs an org id without a colon and a subject id.")
    token = encode(f"{org_id}:{subject_id}")
    if len(token) > TOKEN_MAX:
        raise ValueError(f"The subject id is too long for the wire: {len(token)} bytes encoded, at most {TOKEN_MAX}.")
    return token


@lru_cache(maxsize=4096)
def agent_of(token: str) -> tuple[str, str]:
    """(org_id, subject_id) of a token; ValueError when it is not one."""
    org_id, colon, subject_id = decode(token).partition(":")
    if not org_id or not colon or not subject_id:
        raise ValueError("Not an agent's token.")
    return org_id, subject_id


def deliveries(token: str) -> str:
    return f"agents.{token}.tasks"


def control(token: str) -> str:
    return f"agents.{token}.control"


def heartbeat(token: str) -> str:
    return f"agents.{token}.heartbeat"


def bids(token: str) -> str:
    return f"agents.{token}.bids"


def plain(subject_id: str) -> str:
    """Where agents of other systems listen: the subject that equals their id. An id that is no subject, or would be one
    of ours or of the server's, is encoded."""
    first = subject_id.partition(".")[0]
    usable = _NAME.fullmatch(subject_id) and first not in _OURS and not first.startswith(("$", "_"))
    return subject_id if usable else encode(subject_id)


def report(org_id: str, task_id: str, token: str) -> str:
    """Where the agent `token` reports on a task. NATS lets nobody else publish with that last token."""
    return f"tasks.{encode(org_id)}.{encode(task_id)}.events.{token}"


def news(org_id: str, task_id: str) -> str:
    return f"events.{encode(org_id)}.{encode(task_id)}"


def all_news(org_id: str | None = None) -> str:
    """Wildcard for the news of one org, or of all."""
    return "events.>" if org_id is None else f"events.{encode(org_id)}.>"


def inbox_prefix(token: str) -> str:
    """Answers to an agent arrive below this, where only it may listen."""
    return f"_INBOX_{token}"


@dataclass(frozen=True, kw_only=True)
class ReportSubject:
    """What a report's subject says: the task, and the sender as NATS authenticated it."""

    org_id: str
    task_id: str
    sender_org_id: str
    sender_subject_id: str


def parse_report(subject: str) -> ReportSubject:
    """ValueError when it is not a report subject."""
    parts = subject.split(".")
    if len(parts) != 5 or parts[0] != "tasks" or parts[3] != "events":
        raise ValueError("Not a report subject.")
    sender_org_id, sender_subject_id = agent_of(parts[4])
    return ReportSubject(
        org_id=decode(parts[1]),
        task_id=decode(parts[2]),
        sender_org_id=sender_org_id,
        sender_subject_id=sender_subject_id,
    )


def parse_agent(subject: str) -> str:
    """The agent's token in `agents.<token>.…`; ValueError when it is another subject."""
    parts = subject.split(".")
    if len(parts) != 3 or parts[0] != "agents":
        raise ValueError("Not an agent's subject.")
    return parts[1]
