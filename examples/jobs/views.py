"""The three use cases as views whose slow methods are jobs. Nothing below knows of queues, workers or states: that is `as_job`.

    POST /examples/documents    files of a form            -> ingest_documents, as a job
    GET  /examples/documents    what there is; with ?job_id=… how a job is
    POST /examples/search       the nearest passages, at once: the tool of agents
    POST /examples/questions    {"question": …}            -> rag_query, as a job
    POST /examples/workflows    {"topic", "questions"}     -> execute_agent_workflow, as a job
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
from apps.jobs import progress
from apps.jobs.manager import get_job_manager
from apps.jobs.mixin import JobManagerMixin
from apps.orgs.access import AGENT, SUBMITTER, RequireRole
from examples.jobs import asked, workflow
from examples.jobs.answering import answer, llm
from examples.jobs.library import COLLECTION, Library
from examples.jobs.loading import Unreadable

TAG = ["Examples"]
