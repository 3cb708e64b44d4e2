"""Views whose methods the workers of every backend run."""

from __future__ import annotations

import asyncio

from django.http import JsonResponse
from django.views.generic import View
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.jobs import JobManagerMixin, as_job
from apps.orgs.access import RequireRole
from tests.contracts.jobs.carriers import THEIRS


class Drf(JobManagerMixin, APIView):
    permission_classes = [RequireRole("submitter")]

    @as_job(return_job_id=False)
    async def post(self, request):
        await asyncio.sleep(0)
        self.update_progress(50, "half")
        return Response({"drf": request.data, "key": request.user.key_id}, status=201)


class Plain(JobManagerMixin, View):
    @as_job(queue=THEIRS, return_job_id=False)
    def post(self, request):
        return JsonResponse({"django": request.data})


class Free(JobManagerMixin):
    @as_job(return_job_id=False)
    def double(self, number: int):
        return number * 2
