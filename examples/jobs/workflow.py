"""The multi-agent workflow as a session: research (a task per question, side by side) → analysis → writing → review."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from apps.core import clock
from apps.core.auth import Principal
from apps.core.errors import Conflict, Missing, PlatformError
from apps.jobs.progress import undisturbed
from apps.workflows.following import Follower
from apps.workflows.service import Sessions
from apps.workflows.states import SessionStatus

TASK_SECONDS, SESSION_SECONDS = 120, 1500
BEAT_SECONDS = 1.0

Progress = Callable[[float, str], None]


class WorkflowFailed(PlatformError):
    code, sentence = "workflow_failed", "The workflow of agents did not come to its end."


def document(session_id: str, *, topic: str, questions: Sequence[str], collection: str) -> dict[str, Any]:
    def task(key: str, agent: str, goal: str, input: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"key": key, "agent": agent, "agent_class": key.capitalize(), "message_template": goal, "input": input, **more}

    per_question = {"type": "array", "array_mapping": {"question": "questions"}, "output_format": "merge", "max_parallel": 4}
    return {
        "session_id": session_id,
        "name": topic[:200],
        "context": {"topic": topic, "questions": list(questions)},
        "defaults": {"executor": "agent", "timeout_s": TASK_SECONDS, "max_retries": 2, "retry_delays": [1, 5]},
        "timeout_s": SESSION_SECONDS,
        "task_groups": [
            {"key": "gathering", "tasks": [
                task("research", "researcher", "Find out: {question}", {"question": "{question}", "collection": collection},
                     expansion_config=per_question, continue_on_error=False),
            ]},
            {"key": "newsroom", "dependencies": ["gathering"], "tasks": [
                task("analysis", "analyst", "Say what holds of what was found on {topic}", {"findings": "{research.results}"}),
                task("writing", "writer", "Write about {topic}", {"topic": "{topic}", "analysis": "{analysis}"}, dependencies=["analysis"]),
                task("review", "reviewer", "Check the article on {topic}",
                     {"article": "{writing.article}", "analysis": "{analysis}"}, dependencies=["writing"]),
            ]},
        ],
        "result_keys": ["analysis", "writing", "review"],
    }  # fmt: skip


def run(principal: Principal, session_id: str, *, progress: Progress, **matter: Any) -> dict[str, Any]:
    """Hand it in and see it through. `progress(percent, message)` may raise to stop it: then the session is cancelled. Run
    again under the same id, after a worker died, it is the same session. Raises WorkflowFailed, Invalid."""
    sessions = Sessions()
    try:
        with undisturbed():
            sessions.create(document(session_id, **matter), principal, now=clock.now())
        _follow(principal, session_id, progress)
    except BaseException:
        # Also what is no Exception: a job that is cancelled, or out of time, leaves no agents at work.
        with undisturbed(), contextlib.suppress(Missing, Conflict):
            sessions.cancel(principal, session_id, now=clock.now(), reason="the job that wanted it is over")
        raise
    found = sessions.results(principal, session_id)
    if found["status"] != SessionStatus.COMPLETED:
        missing = "; ".join(f"{one['path']}: {one['reason']}" for one in found["missing"])
        raise WorkflowFailed(f"The session {session_id} {found['status']}: {missing}"[:300])
    results = found["results"]
    analysis, review = results["analysis"], results["review"]
    return {
        "session_id": session_id,
        "article": results["writing"]["article"],
        "approved": review["approved"],
        "review": review,
        "sources": analysis["sources"],
        "open": analysis["open"],
    }


def _follow(principal: Principal, session_id: str, progress: Progress) -> None:
    percent, message = 0.0, "handed to the agents"
    for happening in Follower(principal.org_id, session_id).follow(beat_seconds=BEAT_SECONDS):
        if happening is not None and happening.name == "session":
            percent = happening.data["progress"]
        elif happening is not None and happening.name == "step" and happening.data["kind"] == "step":
            message = f"{happening.data['key']}: {happening.data['status']}"
        progress(percent, message)
