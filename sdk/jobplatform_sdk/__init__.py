"""Agents, clients and the command line of the job platform."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers, which do not run `__getattr__`
    from jobplatform_sdk.agent import Agent as Agent
    from jobplatform_sdk.attempt import Context as Context
    from jobplatform_sdk.attempt import Decline as Decline
    from jobplatform_sdk.attempt import Result as Result
    from jobplatform_sdk.attempt import Retryable as Retryable
    from jobplatform_sdk.bidding import Bid as Bid
    from jobplatform_sdk.bidding import Call as Call
    from jobplatform_sdk.client import Client as Client
    from jobplatform_sdk.client_async import AsyncClient as AsyncClient
    from jobplatform_sdk.client_calls import Patience as Patience
    from jobplatform_sdk.client_errors import ClientError as ClientError
    from jobplatform_sdk.credentials import BadKey as BadKey
    from jobplatform_sdk.enrolment import enrol as enrol
    from jobplatform_sdk.runtime import AccessRefused as AccessRefused
    from jobplatform_sdk.task import Task as Task
    from jobplatform_sdk.webhooks import BadWebhook as BadWebhook
    from jobplatform_sdk.webhooks import verify_webhook as verify_webhook

_HOMES = {
    "Agent": "agent",
    "Bid": "bidding",
    "Call": "bidding",
    "Context": "attempt",
    "Decline": "attempt",
    "Result": "attempt",
    "Retryable": "attempt",
    "Task": "task",
    "BadKey": "credentials",
    "AccessRefused": "runtime",
    "Client": "client",
    "AsyncClient": "client_async",
    "Patience": "client_calls",
    "ClientError": "client_errors",
    "enrol": "enrolment",
    "BadWebhook": "webhooks",
    "verify_webhook": "webhooks",
}
"""Where each name lives. Imported when first used: an agent needs no HTTP, a client no NATS."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
