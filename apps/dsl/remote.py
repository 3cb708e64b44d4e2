"""Policies that answer over HTTP: an org's own service instead of a script in our sandbox.

    POST <dsl_remote_url>   {"script_id", "version", "hook", "input"}
    200                     {"output": {…}}: what a script would have returned, or {"error": "one sentence"}

Requests are signed with `dsl_remote_secret` (apps.core.signatures), and so are answers where the org asks for it.
docs/policies.md has the protocol and an example server. Whatever goes wrong is an `Answer` of kind `remote`, like the
error of a script: the table in `policies.py` says what the platform does then.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from apps.core import ids, signatures
from apps.core.errors import Invalid, Malformed, TooLarge
from apps.core.outbound import CircuitBreaker, OutboundFailed, Reply, send
from apps.core.strict_json import Limits, parse_json
from apps.dsl.engine import Answer
from apps.dsl.policies import Hook
from apps.orgs.config_keys import OrgConfig

PREFIX = "remote:"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*(/[A-Za-z0-9][A-Za-z0-9_.+-]*){0,3}(@(?P<version>[1-9][0-9]{0,8}))?")
ANSWER_BYTES = 64 * 1024
LIMITS = Limits(body=ANSWER_BYTES, depth=32)
AT_ONCE = 16
"""Questions to one service at a time, per batch."""
BATCH_SECONDS = 10.0
"""All questions of one batch together; the rest is not asked."""
ERROR_LENGTH = 500


@dataclass(frozen=True, kw_only=True)
class Question:
    org_id: str
    script_id: str
    """Without the prefix and the version."""
    version: int | None
    hook: Hook
    input: dict[str, Any]
    config: OrgConfig


@dataclass(frozen=True, kw_only=True)
class RemoteAnswer:
    answer: Answer
    http_status: int = 0
    """0: no answer came."""


def is_remote(script_id: str, config: OrgConfig | None) -> bool:
    """`remote:<name>` always is; any script of an org that says `dsl_execution: remote` is."""
    return script_id.startswith(PREFIX) or (config is not None and config.dsl_execution == "remote")


def named(script_id: str) -> tuple[str, int | None] | None:
    """(name, version) of `remote:<name>` and `remote:<name>@<version>`; None for what cannot be one."""
    name = script_id.removeprefix(PREFIX)
    found = NAME.fullmatch(name)
    if found is None:
        return None
    return name.partition("@")[0], int(found["version"]) if found["version"] else None


def ask_many(questions: Sequence[Question], *, now: datetime) -> list[RemoteAnswer]:
    """One answer each, in order. Asked at once, `AT_ONCE` at a time; within `BATCH_SECONDS` and a time limit all are answered."""
    if not questions:
        return []
    began = time.monotonic()
    if len(questions) == 1:
        return [_ask(questions[0], now, began)]
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(questions)), thread_name_prefix="remote-policy") as threads:
        return list(threads.map(lambda question: _ask(question, now, began), questions))


def _ask(question: Question, now: datetime, began: float) -> RemoteAnswer:
    config = question.config
    if not config.dsl_remote_url or not config.dsl_remote_secret:
        return _failed("dsl_remote_url and dsl_remote_secret are not configured")
    left = BATCH_SECONDS - (time.monotonic() - began)
    if left <= 0:
        return _failed(f"not asked: the service took more than {BATCH_SECONDS:g} s for the questions before this one")
    digest = hashlib.sha256(config.dsl_remote_url.encode()).hexdigest()[:16]
    breaker = CircuitBreaker(f"policy:{question.org_id}:{digest}")
    if not breaker.allows(_moment(now, began)):
        return _failed("not asked: the service failed again and again and rests")
    started = time.perf_counter()
    status, error = 0, ""
    output: Any = None
    try:
        reply = _call(question, min(config.dsl_remote_timeout_ms / 1000, left), now=_moment(now, began))
        status = reply.status
        output, error = _read(reply)
    except _Wrong as wrong:
        status, error = wrong.status, wrong.sentence
        # Saying no to one question is not being broken.
        if 400 <= status < 500 and status not in (408, 429):
            breaker.succeeded()
        else:
            breaker.failed(_moment(now, began))
    else:
        breaker.succeeded()
    took = int((time.perf_counter() - started) * 1e6)
    return RemoteAnswer(answer=Answer(value=output, kind="remote" if error else "", error=error, duration_us=took), http_status=status)


def _call(question: Question, timeout_s: float, *, now: datetime) -> Reply:
    """A reply with status 200, signed if need be. Raises _Wrong."""
    config = question.config
    message_id = f"pol_{ids.time_ordered()}"
    body = orjson.dumps(
        {"script_id": question.script_id, "version": question.version, "hook": question.hook, "input": question.input}
    )
    headers = {
        "content-type": "application/json",
        "accept": "application/json",
        **signatures.headers(config.dsl_remote_secret, message_id=message_id, body=body, now=now),
    }
    try:
        reply = send(
            "POST", config.dsl_remote_url, body=body, headers=headers, timeout_s=timeout_s,
            max_bytes=ANSWER_BYTES, allow=config.outbound_allow,
        )  # fmt: skip
    except OutboundFailed as failed:
        raise _Wrong(f"{failed.code}: {failed.sentence}") from failed
    if reply.status != 200:
        raise _Wrong(f"the service answered with status {reply.status}", reply.status)
    if config.dsl_remote_signed_answers:
        try:
            signatures.verify(config.dsl_remote_secret, reply.headers, message_id=message_id, body=reply.body, now=now)
        except signatures.BadSignature as bad:
            raise _Wrong(f"the answer is not believed: {bad}", reply.status) from bad
    return reply


def _read(reply: Reply) -> tuple[Any, str]:
    """(output, error). Raises _Wrong when it is neither."""
    try:
        answer = parse_json(reply.body, LIMITS)
    except (Malformed, Invalid, TooLarge) as wrong:
        raise _Wrong("the answer is not plain JSON within the limits of answers", reply.status) from wrong
    if type(answer) is not dict or len({"output", "error"} & answer.keys()) != 1:
        raise _Wrong("the answer must be an object with either `output` or `error`", reply.status)
    if "error" in answer:
        said = answer["error"] if isinstance(answer["error"], str) else "an error that is not text"
        return None, f"the service says: {said[:ERROR_LENGTH]}"
    return answer["output"], ""


class _Wrong(Exception):
    """No usable answer."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        self.sentence, self.status = sentence, status
        super().__init__(sentence)


def _moment(now: datetime, began: float) -> datetime:
    """A batch may last seconds; its instants move on with it."""
    return now + timedelta(seconds=time.monotonic() - began)


def _failed(sentence: str) -> RemoteAnswer:
    return RemoteAnswer(answer=Answer(kind="remote", error=sentence))
