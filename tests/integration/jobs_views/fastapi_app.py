"""A FastAPI application whose routes are jobs; its users are what a dependency says."""

from __future__ import annotations

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from apps.jobs import JobManagerMixin, as_job
from apps.jobs.fastapi import job_routes
from tests.integration.jobs_views import views


class User:
    is_authenticated = True

    def __init__(self, username: str) -> None:
        self.username = username


def known(request: Request) -> None:
    if not (name := request.headers.get("x-user")):
        raise HTTPException(401)
    request.state.user = User(name)


class Order(BaseModel):
    item: str
    count: int = 1


class Receipt(BaseModel):
    total: int


class Orders(JobManagerMixin):
    job_manager = views.backend

    @as_job(queue="fast", result=Receipt)
    async def post(self, request: Request, shop: int, order: Order):
        """Places an order."""
        return {"total": order.count * 2, "shop": shop, "user": request.user.username, "item": (await request.json())["item"]}

    @as_job
    def put(self, request, shop: int):
        files = {name: request.FILES[name].read().decode() for name in request.FILES}
        return {"data": request.data, "files": files, "path": request.url.path, "q": request.query_params.getlist("q"), "shop": shop}


class Adapter(JobManagerMixin):
    """As the specification writes it."""

    def __init__(self) -> None:
        self.job_manager = views.backend
        super().__init__()

    @as_job
    def crunch(self, number: int):
        return number + 1


app = FastAPI()
app.include_router(job_routes(Orders, "/shops/{shop}/orders", dependencies=[Depends(known)], tags=["orders"]))
adapter = Adapter()


@app.post("/task")
async def create_task():
    return adapter.crunch(1)


@app.post("/direct")
@as_job
async def direct(request: Request):
    return {"direct": (await request.json())["a"]}
