"""The streams and consumers the platform keeps on NATS. Making them again changes nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings

from apps.messaging import subjects
from jobplatform_sdk.link import Link, LinkDown

log = logging.getLogger(__name__)

ACK_WAIT_SECONDS = 60
LISTENER_ACK_WAIT_SECONDS = 15
"""What a listener that died had fetched comes to the next one after so long. Applying a report twice is harmless."""
MAX_DELIVER = 5
MAX_ACK_PENDING = 4096
DELIVERY_LIFE_SECONDS = 24 * 3600
"""A delivery nobody fetched for so long is of a task whose lease ended long ago."""
REPORT_LIFE_SECONDS = 7 * 24 * 3600
AT_ONCE = 256

_CONSUMER_NOT_FOUND = 10014
_NAME_IN_USE = 10058
_NO_MESSAGE = 10037
_STREAM_NOT_FOUND = 10059
_NANO = 1_000_000_000


class JetStreamRefused(LinkDown):
    """The server understood and said no: out of space, a limit, a configuration it does not take."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code = error.get("err_code", 0)
        super().__init__(error.get("description", "JetStream refused."))


async def call(link: Link, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """One request to JetStream's API. LinkDown when it is away, JetStreamRefused when it says no."""
    answer: dict[str, Any] = orjson.loads(await link.request(f"$JS.API.{name}", orjson.dumps(body)))
    if "error" in answer:
        raise JetStreamRefused(answer["error"])
    return answer


async def ensure_streams(link: Link) -> None:
    await _ensure_stream(link, subjects.DELIVERIES, subjects.ALL_DELIVERIES, DELIVERY_LIFE_SECONDS)
    await _ensure_stream(link, subjects.REPORTS, subjects.ALL_REPORTS, REPORT_LIFE_SECONDS)
    await ensure_consumer(
        link,
        subjects.REPORTS,
        subjects.LISTENER,
        subjects.ALL_REPORTS,
        ack_wait_seconds=LISTENER_ACK_WAIT_SECONDS,
        max_deliver=-1,
        max_ack_pending=20_000,
    )


async def ensure_agents(link: Link, tokens: Iterable[str], *, ack_wait_seconds: float = ACK_WAIT_SECONDS) -> None:
    """A durable for each. Streams are made first when they are missing."""
    waiting = list(tokens)
    try:
        await _ensure_agents(link, waiting, ack_wait_seconds)
    except JetStreamRefused as error:
        if error.code != _STREAM_NOT_FOUND:
            raise
        await ensure_streams(link)
        await _ensure_agents(link, waiting, ack_wait_seconds)


async def _ensure_agents(link: Link, tokens: list[str], ack_wait_seconds: float) -> None:
    for start in range(0, len(tokens), AT_ONCE):
        calls = [
            ensure_consumer(link, subjects.DELIVERIES, token, subjects.deliveries(token), ack_wait_seconds=ack_wait_seconds)
            for token in tokens[start : start + AT_ONCE]
        ]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome


async def ensure_consumer(
    link: Link,
    stream: str,
    durable: str,
    subject: str,
    *,
    ack_wait_seconds: float = ACK_WAIT_SECONDS,
    max_deliver: int = MAX_DELIVER,
    max_ack_pending: int = MAX_ACK_PENDING,
) -> None:
    config = {
        "name": durable,
        "durable_name": durable,
        "filter_subject": subject,
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_seconds * _NANO),
        "max_deliver": max_deliver,
        "max_ack_pending": max_ack_pending,
        "deliver_policy": "all",
        "replay_policy": "instant",
    }
    await call(link, f"CONSUMER.CREATE.{stream}.{durable}.{subject}", {"stream_name": stream, "config": config})


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a consumer is in its stream. Sequence numbers start again when the stream's disk is lost."""

    stored: int = 0
    """The newest message of the stream, the consumer's or not."""
    delivered: int = 0
    """The newest that was handed out to the consumer."""
    done: int = 0
    """All of the consumer's up to this one are acknowledged."""
    unfetched: int = 0
    unacknowledged: int = 0


async def standing(link: Link, stream: str, durable: str) -> Standing:
    """All zero when there is no such stream or consumer. What is stored is read first: all of it is `done` when nothing waits."""
    try:
        state = (await call(link, f"STREAM.INFO.{stream}", {}))["state"]
        info = await call(link, f"CONSUMER.INFO.{stream}.{durable}", {})
    except JetStreamRefused as error:
        if error.code not in (_CONSUMER_NOT_FOUND, _STREAM_NOT_FOUND):
            raise
        return Standing()
    nothing_waits = not info["num_pending"] and not info["num_ack_pending"]
    return Standing(
        stored=state["last_seq"],
        delivered=info["delivered"]["stream_seq"],
        done=state["last_seq"] if nothing_waits else info["ack_floor"]["stream_seq"],
        unfetched=info["num_pending"],
        unacknowledged=info["num_ack_pending"],
    )


async def delete_messages(link: Link, stream: str, sequences: Iterable[int]) -> None:
    """Take them out, whoever may have fetched them. A sequence that is gone already is fine."""
    waiting = list(sequences)
    for start in range(0, len(waiting), AT_ONCE):
        calls = [call(link, f"STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": True}) for seq in waiting[start : start + AT_ONCE]]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, JetStreamRefused):
                if outcome.code not in (_NO_MESSAGE, _STREAM_NOT_FOUND):
                    log.warning("nats.delete_refused", extra={"error": str(outcome), "code": outcome.code})
            elif isinstance(outcome, BaseException):
                raise outcome


async def forget_org(link: Link, org_id: str) -> None:
    """Every message about an org's tasks or to its agents, and its agents' consumers. Twice is harmless."""
    tokens = {token for token in await _tokens(link) if _org_of(token) == org_id}
    reports = [f"tasks.{subjects.encode(org_id)}.>", *(f"tasks.*.*.events.{token}" for token in tokens)]
    purges = [(subjects.REPORTS, subject) for subject in reports]
    purges += [(subjects.DELIVERIES, subjects.deliveries(token)) for token in tokens]
    for stream, subject in purges:
        await _unless_missing(call(link, f"STREAM.PURGE.{stream}", {"filter": subject}))
    for token in tokens:
        await _unless_missing(call(link, f"CONSUMER.DELETE.{subjects.DELIVERIES}.{token}", {}))


async def _tokens(link: Link) -> set[str]:
    """Of the agents that have a consumer or a message."""
    names: list[str] = []
    while some := (await _unless_missing(call(link, f"CONSUMER.NAMES.{subjects.DELIVERIES}", {"offset": len(names)}))).get("consumers"):
        names += some
    stored: list[str] = []
    asked = {"subjects_filter": subjects.ALL_DELIVERIES}
    while info := await _unless_missing(call(link, f"STREAM.INFO.{subjects.DELIVERIES}", {**asked, "offset": len(stored)})):
        if not (some := info["state"].get("subjects")):
            break
        stored += some
    return {*names, *map(subjects.parse_agent, stored)}


def _org_of(token: str) -> str:
    """"" of a consumer that is not ours."""
    try:
        return subjects.agent_of(token)[0]
    except ValueError:
        return ""


async def _unless_missing(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    try:
        return await work
    except JetStreamRefused as error:
        if error.code not in (_CONSUMER_NOT_FOUND, _STREAM_NOT_FOUND):
            raise
        return {}


async def _ensure_stream(link: Link, name: str, subject: str, life_seconds: int) -> None:
    config = {
        "name": name,
        "subjects": [subject],
        "retention": "workqueue",
        "storage": "file",
        "discard": "old",
        "max_age": life_seconds * _NANO,
        "duplicate_window": 120 * _NANO,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "num_replicas": settings.NATS_REPLICAS,
    }
    try:
        await call(link, f"STREAM.CREATE.{name}", config)
    except JetStreamRefused as error:
        if error.code != _NAME_IN_USE:
            raise
        # Made with another configuration, by an older version or by the operator (replicas): theirs wins where we do not care.
        present = (await call(link, f"STREAM.INFO.{name}", {}))["config"]
        await call(link, f"STREAM.UPDATE.{name}", present | {key: config[key] for key in ("subjects", "max_age", "duplicate_window")})
