"""May this org name this script here? Asked when a config key is set, so that a slip of the pen is said at once and
not by every task that comes. A task that names a script which does not exist is a question without an answer
(`policies.py` says what happens then): its submitter cannot know all names, and scripts may come and go."""

from __future__ import annotations

import difflib
from typing import Any

from apps.core.errors import Invalid, Problem
from apps.dsl import remote
from apps.dsl.book import BUILT_IN
from apps.dsl.models import PolicyScript
from apps.dsl.policies import POLICIES, Hook
from apps.orgs import config_checks
from apps.orgs.config_store import OrgConfigProvider


class WrongScript(Invalid):
    """`code`: unknown_script, not_active, other_hook or no_service."""

    def __init__(self, key: str, code: str, message: str) -> None:
        super().__init__([Problem(field="value", code=code, message=message)], f"The value of '{key}' {message}")
        self.code = code


def check_script(org_id: str, key: str, script_id: Any) -> None:
    """Raises WrongScript when the org has no active script of that name for that question."""
    if script_id is None:
        return None
    hook = HOOK_OF[key]
    if script_id.startswith(remote.PREFIX):
        return _check_remote(org_id, key, script_id)
    if OrgConfigProvider().of(org_id).dsl_execution == "remote":
        return None  # the service knows its scripts
    rows = PolicyScript.objects.filter(org_id__in=(org_id, BUILT_IN), script_id=script_id).values_list("hook", "status")
    if not rows:
        raise WrongScript(key, "unknown_script", f"is no policy script of this org or of the platform{_near(org_id, hook, script_id)}")
    other = next((found for found, _ in rows if found != hook), None)
    if other is not None:
        raise WrongScript(key, "other_hook", f"names a script that answers {other}, not {hook}{_near(org_id, hook, script_id)}")
    if PolicyScript.Status.ACTIVE not in {status for _, status in rows}:
        raise WrongScript(key, "not_active", "names a script without an active version; activate one first.")
    return None


def _check_remote(org_id: str, key: str, script_id: str) -> None:
    if remote.named(script_id) is None:
        raise WrongScript(key, "unknown_script", "is no name of a remote policy.")
    config = OrgConfigProvider().of(org_id)
    if not config.dsl_remote_url or not config.dsl_remote_secret:
        raise WrongScript(key, "no_service", "names a remote policy; set dsl_remote_url and dsl_remote_secret first.")


def _near(org_id: str, hook: Hook, script_id: str) -> str:
    active = PolicyScript.objects.filter(org_id__in=(org_id, BUILT_IN), hook=hook, status=PolicyScript.Status.ACTIVE)
    near = difflib.get_close_matches(script_id, sorted(set(active.values_list("script_id", flat=True)[:1000])), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else "."


HOOK_OF = {policy.config_key: policy.hook for policy in POLICIES.values()}


def connect() -> None:
    for key in HOOK_OF:
        config_checks.register(key, check_script)
