"""An org's own auction service: it gets the script's output, and answers with the agent.

POST <auction_service_url>: the output of the auction-input script, with `task_id`, `org_id` and `candidate_subject_ids`
beside it. Answer: `{"success": true, "data": {"head_agent_subject_id": "…"}}`, which must be one of the candidates.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from apps.agents.market.questions import Answer, ServiceRequest
from apps.orgs.config_store import OrgConfig


def request(case: Any, config: OrgConfig) -> ServiceRequest:
    body = {
        **case.output,
        "task_id": case.facts.task_id,
        "org_id": case.facts.org_id,
        "candidate_subject_ids": [candidate.subject_id for candidate in case.candidates],
    }
    return ServiceRequest(
        org_id=case.facts.org_id,
        url=config.auction_service_url or "",
        body=body,
        timeout_ms=config.auction_service_timeout_ms,
        allow=config.outbound_allow,
    )


def chosen(answer: Answer, candidates: Collection[str]) -> tuple[str, str]:
    """(agent, "") or ("", problem)."""
    if answer.problem:
        return "", answer.problem
    body = answer.body
    if type(body) is not dict or type(body.get("success")) is not bool:
        return "", "its answer is not {success, data}"
    if not body["success"]:
        error = body.get("error")
        return "", f"it says: {error[:200]}" if isinstance(error, str) else "it says success: false"
    data = body.get("data")
    agent = data.get("head_agent_subject_id") if type(data) is dict else None
    if type(agent) is not str or not agent:
        return "", "its answer names no head_agent_subject_id"
    if agent not in candidates:
        return "", f"{agent[:180]!r} is not a candidate"
    return agent, ""
