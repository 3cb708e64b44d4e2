"""An agent that was invited gets its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobplatform_sdk.client import Client
from jobplatform_sdk.client_agents import Enrolled, redeem


def enrol(url: str, token: str, *, card: Mapping[str, Any] | None = None) -> Enrolled:
    """Redeem an enrolment's token, once: the answer holds the agent's API key, which nobody can show again.

    `card`: what the agent can do (capabilities, job_kinds, slots, max_payload_bytes, costs, version, description). Raises
    Unauthenticated when the token is not (or no longer) good, and the rest of the clients' errors.
    """
    with Client(url, token) as client:
        return client._ask(redeem(card))
