"""The three use cases as views whose slow methods are jobs. Nothing below knows of queues, workers or states: that is `as_job`.

POST /examples/documents    files of a form          -> ingest_documents, as a job
GET  /examples/documents    what there is; as each view of jobs, with ?job_id=… how that job is
POST /examples/search       the nearest passages, at once: the tool of agents
POST /examples/questions    {"question": …}          -> rag_query, as a job
POST /examples/workflows    {"topic", "questions"}   -> execute_agent_workflow, as a job
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.core import clock
from apps.core.errors import Invalid, Problem
from apps.core.http import answer as say
from apps.core.http import read_object
from apps.jobs import JobManagerMixin, get_job_manager, progress
from apps.jobs.openapi import JobCreated, JobRefused
from apps.orgs.access import AGENT, SUBMITTER, RequireRole
from examples.jobs import asked, workflow
from examples.jobs.answering import Passage, answer, llm
from examples.jobs.library import COLLECTION, Library
from examples.jobs.loading import Unreadable

Json = dict[str, Any]
TAG, MADE = ["examples"], {202: JobCreated, 400: JobRefused}


class Documents(JobManagerMixin, APIView):
    permission_classes = [RequireRole(SUBMITTER)]
    parser_classes = [MultiPartParser]

    def __init__(self, **kwargs: Any) -> None:
        self.job_manager = get_job_manager()  # or a Celery app, an rq.Queue, a Dramatiq broker
        super().__init__(**kwargs)

    @JobManagerMixin.as_job(queue="document_processing", timeout=7200, retries=2, accepts=asked.Upload)
    def ingest_documents(self, request: Request) -> Json:
        """Load, chunk, embed, store. What cannot be read is listed with its reason; done again, it comes to the same end."""
        wanted = asked.read(asked.Upload, request.data)
        library, files = Library(request.user.org_id, wanted["collection"]), wanted["files"]
        entries, unread = [], []
        for place, file in enumerate(files):

            def step(done: int, total: int, place: int = place, name: str = file.name) -> None:
                self.update_progress(100 * (place + done / total) / len(files), f"{name}: {done} of {total} chunks")

            try:
                entries.append(library.add(file.name, file.read(), by=request.user.actor, now=clock.now(), progress=step))
            except Unreadable as error:
                unread.append(Problem(field=file.name, code="unreadable", message=str(error)))
        if not entries:
            raise Invalid(unread, f"Nothing of it can be read: {unread[0].field} {unread[0].message}")
        return {
            "collection": wanted["collection"],
            "documents": [asdict(entry) for entry in entries],
            "unread": [problem.json() for problem in unread],
            "chunks": sum(entry.chunks for entry in entries),
        }

    @extend_schema(tags=TAG, summary="Bring documents in", request={"multipart/form-data": asked.Upload}, responses=MADE)
    def post(self, request: Request) -> Any:
        return self.ingest_documents(request)

    @extend_schema(tags=TAG, summary="The documents of a collection", responses={200: dict})
    def get(self, request: Request) -> HttpResponse:
        library = Library(request.user.org_id, request.query_params.get("collection", COLLECTION))
        return say({"items": [asdict(entry) for entry in library.entries()]})


class Search(APIView):
    permission_classes = [RequireRole(SUBMITTER, AGENT)]

    @extend_schema(tags=TAG, summary="The passages nearest to a question", request=asked.Search, responses={200: dict})
    def post(self, request: Request) -> HttpResponse:
        wanted = asked.read(asked.Search, read_object(request))
        return say({"passages": [asdict(passage) for passage in _passages(request, wanted)]})


class Questions(JobManagerMixin, APIView):
    permission_classes = [RequireRole(SUBMITTER)]

    @JobManagerMixin.as_job(
        queue="rag_queries", timeout=300, accepts=asked.Question, depends_on=lambda request: request.data.get("after", ())
    )
    def rag_query(self, request: Request) -> Json:
        """Embed, search, build the prompt, ask the model; the answer comes with the passages it cites."""
        wanted = asked.read(asked.Question, request.data)
        passages = _passages(request, wanted)
        self.update_progress(50, f"{len(passages)} passages found")
        found = answer(wanted["question"], passages, llm())
        return {"question": wanted["question"], "answer": found.text, "known": found.known, "sources": found.sources}

    @extend_schema(tags=TAG, summary="Answer a question from the documents, with its sources", request=asked.Question, responses=MADE)
    def post(self, request: Request) -> Any:
        return self.rag_query(request)


class Workflows(JobManagerMixin, APIView):
    permission_classes = [RequireRole(SUBMITTER)]

    @JobManagerMixin.as_job(queue="agent_workflows", timeout=1800, retries=1, accepts=asked.Topic)
    def execute_agent_workflow(self, request: Request) -> Json:
        """Research, analysis, writing, review, each by an agent; the job follows them, and takes them along when it is cancelled."""
        matter = asked.read(asked.Topic, request.data)
        session_id = f"article-{progress.current().job_id.removeprefix('job_')}"
        return workflow.run(request.user, session_id, progress=self.update_progress, **matter)

    @extend_schema(tags=TAG, summary="Have four agents write about a topic", request=asked.Topic, responses=MADE)
    def post(self, request: Request) -> Any:
        return self.execute_agent_workflow(request)


def _passages(request: Request, wanted: Json) -> list[Passage]:
    library = Library(request.user.org_id, wanted["collection"])
    return library.search(wanted["question"], limit=wanted["top_k"], document=wanted["document"])
