"""The HTTP face of jobs. Views translate, make one domain call, translate back.

An operator sees and steers the jobs of his org, anybody else those submitted with the same key; all others are missing. Nothing is
submitted here: a job is born where a view's method is called.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.views import APIView

from apps.core import clock
from apps.core.http import answer, optional_object
from apps.jobs import answers, listing, streaming
from apps.jobs.api import docs, shapes
from apps.jobs.calls import Owner
from apps.jobs.listing import JobQuery
from apps.jobs.manager import JobManager, UnknownJob
from apps.jobs.models import Job
from apps.jobs.people import owner_of
from apps.orgs.access import AGENT, SUBMITTER, RequireRole
from apps.tasks.api.bodies import reason_of
from apps.tasks.bodies import Body


class JobsView(APIView):
    permission_classes = [RequireRole(SUBMITTER, AGENT)]

    @property
    def owner(self) -> Owner:
        return owner_of(self.request.user)

    def job(self, job_id: str) -> Job:
        row = listing.visible(self.owner).filter(pk=job_id).first()
        if row is None:
            raise UnknownJob()
        return row

    def shown(self, job_id: str) -> dict[str, Any]:
        return shapes.full(self.job(job_id), operates=self.owner.operates)


class Jobs(JobsView):
    @extend_schema(**docs.LIST)
    def get(self, request: Any) -> HttpResponse:
        rows, following = JobQuery.of(request.query_params).page(self.owner)
        return answer({"items": [shapes.brief(row) for row in rows], "next_cursor": following})


class Summary(JobsView):
    @extend_schema(**docs.SUMMARY)
    def get(self, request: Any) -> HttpResponse:
        return answer(listing.summary(self.owner))


class OneJob(JobsView):
    @extend_schema(**docs.GET)
    def get(self, request: Any, job_id: str) -> HttpResponse:
        said = answers.conditional(self.shown(job_id), request.headers.get("If-None-Match", ""))
        if said.status == 304:
            return HttpResponse(status=304, headers=said.headers)
        return answer(said.body, headers=said.headers)


class Events(JobsView):
    @extend_schema(**docs.EVENTS)
    def get(self, request: Any, job_id: str) -> HttpResponse:
        return answer({"items": shapes.events(self.job(job_id))})


class Stream(JobsView):
    http_method_names = ["get"]

    @extend_schema(**docs.STREAM)
    def get(self, request: Any, job_id: str) -> StreamingHttpResponse:
        row = self.job(job_id)
        chunks = streaming.events(JobManager(row.backend), row.id, self.owner)
        # X-Accel-Buffering: proxies of the nginx kind hold events back otherwise.
        return StreamingHttpResponse(chunks, content_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


class Cancel(JobsView):
    @extend_schema(**docs.CANCEL)
    def post(self, request: Any, job_id: str) -> HttpResponse:
        reason, row = reason_of(request), self.job(job_id)
        JobManager(row.backend).cancel(row.id, self.owner, now=clock.now(), reason=reason)
        return answer(self.shown(job_id))


class Retry(JobsView):
    @extend_schema(**docs.RETRY)
    def post(self, request: Any, job_id: str) -> HttpResponse:
        Body(optional_object(request)).done()  # nothing is known in it
        row = self.job(job_id)
        made = JobManager(row.backend).retry(row.id, self.owner, now=clock.now())
        return answer(self.shown(made.id), 201, {"Location": f"/api/v1/jobs/{made.id}"})
