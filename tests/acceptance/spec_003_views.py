"""The methods that the document shows, each in its decorator's own words; mounted on the acceptance platform as a user's views are."""

from __future__ import annotations

from typing import Any

from django.urls import path
from rest_framework.views import APIView

from apps.jobs import JobManagerMixin
from apps.orgs.access import SUBMITTER, RequireRole
from jobplatform.celery import app as celery_app

as_job = JobManagerMixin.as_job


class Shown(JobManagerMixin, APIView):
    """POST /spec-003/<method>: that method, as a job. GET: the parent's own, unless a job is asked after."""

    permission_classes = [RequireRole(SUBMITTER)]

    def __init__(self, **kwargs: Any) -> None:
        self.job_manager = celery_app
        super().__init__(**kwargs)

    def get(self, request: Any, method: str) -> Any:
        from rest_framework.response import Response

        return Response({"methods": sorted(self.get_async_methods())})

    def post(self, request: Any, method: str) -> Any:
        if method == "aggregate_results":
            with self.job_options(depends_on=request.data["after"]):
                return self.aggregate_results(request)
        if method == "train_model":
            with self.job_options(webhook_url=request.data["callback"]):
                return self.train_model(request)
        return getattr(self, method)(request)

    # ---- "Decorator Pattern"

    @JobManagerMixin.as_job(queue="processing")
    def process_documents(self, request: Any) -> Any:
        if request.data.get("fail"):
            raise ValueError("the documents are not there")
        return {"documents": len(request.data["documents"]), "by": request.user.subject_id}

    # ---- "Queue Selection Strategy"

    @as_job(queue="fast", timeout=30)
    def quick_lookup(self, request: Any) -> Any:
        return self._told("fast")

    @as_job(queue="medium", timeout=300)
    def standard_processing(self, request: Any) -> Any:
        return self._told("medium")

    @as_job(queue="slow", timeout=7200)
    def batch_processing(self, request: Any) -> Any:
        return self._told("slow")

    @as_job(queue="gpu", timeout=300)
    def run_inference(self, request: Any) -> Any:
        return self._told("gpu")

    # ---- "Future Enhancements"

    @as_job(queue="high_priority", priority="high")
    def urgent_task(self, request: Any) -> Any:
        return self._told("high_priority")

    @as_job(queue="processing")
    def aggregate_results(self, request: Any) -> Any:
        return self._told("processing")

    @as_job(queue="ml")
    def train_model(self, request: Any) -> Any:
        return {"accuracy": 0.9}

    @as_job(queue="processing")
    def process_large_dataset(self, request: Any) -> Any:
        dataset = request.data["items"]
        done = []
        for i, item in enumerate(dataset):
            done.append(item * item)
            self.update_progress(i / len(dataset) * 100)
        return {"items": done}

    async def _ended(self) -> str:
        return "asynchronously"

    @as_job(queue="agents")
    async def async_method(self, request: Any) -> Any:
        return {"done": await self._ended()}

    def _told(self, queue: str) -> Any:
        return {"queue": queue}


urlpatterns = [path("spec-003/<str:method>", Shown.as_view())]
