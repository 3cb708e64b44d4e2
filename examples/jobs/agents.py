"""The four agents of the workflow. Each is an ordinary agent with a key of its own; what it does stands in its task.

    JOBPLATFORM_URL=… JOBPLATFORM_NATS_URL=… JOBPLATFORM_API_KEY=<the agent's> python -m examples.jobs.agents

Their tool is the search of the platform (POST /examples/search), asked with the agent's own key.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from examples.jobs import newsroom
from examples.jobs.answering import Passage, llm
from jobplatform_sdk import Agent

SEARCH_SECONDS = 60.0


def make(*, url: str, api_key: str, nats_url: str | None = None) -> Agent:
    """`url`: of the platform, for the search. `run` or `serve` it."""
    agent = Agent(api_key=api_key, nats_url=nats_url, concurrency=4)
    search = _search(url, api_key)

    def research(given: dict[str, Any]) -> dict[str, Any]:
        return newsroom.research(given["question"], lambda question: search(question, given["collection"]), llm())

    def analyse(given: dict[str, Any]) -> dict[str, Any]:
        return newsroom.analyse(given["findings"])

    def write(given: dict[str, Any]) -> dict[str, Any]:
        return {"article": newsroom.write(given["topic"], given["analysis"], llm())}

    def review(given: dict[str, Any]) -> dict[str, Any]:
        return newsroom.review(given["article"], given["analysis"])

    parts = {"Research": research, "Analysis": analyse, "Writing": write, "Review": review}

    @agent.handler
    def work(task: Any, _context: Any) -> dict[str, Any]:
        return parts[task.payload["agent_class"]](task.payload["input"])

    return agent


def _search(url: str, api_key: str) -> Callable[[str, str], list[Passage]]:
    import httpx

    # Behind the dot of an agent's key stands what only NATS needs.
    client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {api_key.partition('.')[0]}"}, timeout=SEARCH_SECONDS)

    def search(question: str, collection: str) -> list[Passage]:
        found = client.post("/examples/search", json={"question": question, "collection": collection})
        found.raise_for_status()
        return [Passage(**passage) for passage in found.json()["passages"]]

    return search


if __name__ == "__main__":
    make(url=os.environ["JOBPLATFORM_URL"], api_key=os.environ["JOBPLATFORM_API_KEY"]).run()
