"""Agents, clients and the command line of the job platform."""

from jobplatform_sdk.agent import Agent
from jobplatform_sdk.attempt import Context, Decline, Retryable
from jobplatform_sdk.credentials import BadKey
from jobplatform_sdk.runtime import AccessRefused
from jobplatform_sdk.task import Task

__all__ = ["AccessRefused", "Agent", "BadKey", "Context", "Decline", "Retryable", "Task"]
