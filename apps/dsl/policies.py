"""The questions policy scripts answer, as one table: hook, entry function, shape of the answer,
where the script is named, and what happens when it is missing, slow or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from apps.orgs.config_keys import OrgConfig


class Hook(StrEnum):
    APPROVAL = "approval"
    PRIORITY = "priority"
    AUCTION_INPUT = "auction_input"
    PLAN_RETRIEVE = "plan_retrieve"


@dataclass(frozen=True, kw_only=True)
class Policy:
    hook: Hook
    function: str
    """Entry function in the script."""
    arguments: tuple[str, ...]
    config_key: str
    """Org config key that names the script."""
    override: tuple[str, ...]
    """Path in the TaskEntry (wire names) that names another script for one task."""
    on_error: str
    """What the platform does when the script is missing, slow or wrong, unless the org says otherwise."""
    on_error_key: str
    """Org config key that says otherwise, within bounds that never let a task in."""


POLICIES: dict[Hook, Policy] = {
    policy.hook: policy
    for policy in (
        Policy(hook=Hook.APPROVAL, function="approve", arguments=("task",), config_key="approval_dsl_id",
               override=("task_op_convertor_dsl_id",), on_error="hold the task for a person (awaiting_approval); never accept",
               on_error_key="approval_on_error"),
        Policy(hook=Hook.PRIORITY, function="prioritize", arguments=("task",), config_key="priority_assigner_dsl_id",
               override=("task_behavior_dsl_map", "priority_assigner_dsl_id"), on_error="the submitter's own priority",
               on_error_key="priority_on_error"),
        Policy(hook=Hook.AUCTION_INPUT, function="auction", arguments=("task",), config_key="auction_input_dsl_id",
               override=("task_behavior_dsl_map", "auction_input_dsl_id"), on_error="the next strategy in agent_resolution_fallbacks",
               on_error_key="auction_input_on_error"),
        Policy(hook=Hook.PLAN_RETRIEVE, function="select", arguments=("task", "candidates"), config_key="plan_retrieve_dsl_id",
               override=("task_behavior_dsl_map", "plan_retrieve_dsl_id"), on_error="the next strategy in agent_resolution_fallbacks",
               on_error_key="plan_retrieve_on_error"),
    )
}


def instead(hook: Hook, config: OrgConfig) -> str:
    """What the platform does in this org when the script is missing, slow or wrong; a clause for people."""
    wish = getattr(config, POLICIES[hook].on_error_key)
    if hook is Hook.APPROVAL:
        return "the task is rejected" if wish == "reject" else "the task waits for a person"
    if hook is Hook.PRIORITY:
        return "the submitter's own priority holds" if wish is None else f"the priority is {wish}"
    return "no other strategy is asked" if wish == "fail" else "the next strategy is asked, if there is one"
