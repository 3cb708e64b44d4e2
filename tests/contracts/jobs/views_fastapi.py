"""In a module of its own: a worker that runs no job of it need not load FastAPI."""

from __future__ import annotations

from fastapi import FastAPI, Request

from apps.jobs import JobManagerMixin, as_job
from apps.jobs.fastapi import job_routes
from tests.contracts.jobs.carriers import THEIRS


class Fast(JobManagerMixin):
    @as_job(queue=THEIRS, return_job_id=False)
    async def post(self, request: Request):
        return {"fastapi": await request.json()}


app = FastAPI()
app.include_router(job_routes(Fast, "/fast"))
