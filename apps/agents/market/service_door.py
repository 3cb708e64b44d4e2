"""The call to an org's auction service, through the one door for outside addresses: time limit, breaker, SSRF guard."""

from __future__ import annotations

import hashlib
import time

import orjson

from apps.agents.market.questions import Answer, ServiceRequest
from apps.core import clock, outbound
from apps.core.outbound import CircuitBreaker, OutboundFailed

ANSWER_BYTES = 64 * 1024


def post(request: ServiceRequest) -> Answer:
    """Raises nothing: whatever goes wrong is the answer's problem, in one sentence."""
    breaker = CircuitBreaker(f"auction:{request.org_id}:{hashlib.sha256(request.url.encode()).hexdigest()[:16]}")
    if not breaker.allows(clock.now()):
        return Answer(problem="it failed too often; it is left alone for a moment")
    began = time.monotonic()
    try:
        reply = outbound.send(
            "POST",
            request.url,
            body=orjson.dumps(request.body),
            headers={"content-type": "application/json", "accept": "application/json"},
            timeout_s=request.timeout_ms / 1000,
            max_bytes=ANSWER_BYTES,
            allow=request.allow,
        )
        took_ms = (time.monotonic() - began) * 1000
        if reply.status >= 500:
            breaker.failed(clock.now())
            return Answer(took_ms=took_ms, problem=f"it answered with status {reply.status}")
        body = orjson.loads(reply.body)
    except OutboundFailed as failed:
        breaker.failed(clock.now())
        return Answer(took_ms=(time.monotonic() - began) * 1000, problem=failed.sentence)
    except orjson.JSONDecodeError:
        breaker.failed(clock.now())
        return Answer(took_ms=(time.monotonic() - began) * 1000, problem="its answer is not JSON")
    breaker.succeeded()
    return Answer(took_ms=took_ms, body=body)
