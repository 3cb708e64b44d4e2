"""Routes of FastAPI from classes whose methods are jobs.

    class Documents(JobManagerMixin):
        @JobManagerMixin.as_job(queue="embeddings")
        async def post(self, request: Request, folder: int): ...

    app.include_router(job_routes(Documents, "/folders/{folder}/documents"))

makes a route of every HTTP method that the class has, each with the parameters of its method, answers `GET …?job_id=` and
`DELETE …?job_id=`, and says so in the OpenAPI document. `dependencies=[Depends(…)]` guard them all; whoever they let in is
`request.state.user`. Needs `pip install '.[fastapi]'`, and Django set up (`django.setup()`): jobs are its rows.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from apps.jobs import schema
from apps.jobs.marks import JobMark, mark_of

try:
    from fastapi import APIRouter
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
except ImportError as error:
    raise ImportError("jobs in FastAPI need its library: pip install '.[fastapi]'") from error

VERBS = ("get", "post", "put", "patch", "delete")


def job_routes(view_class: type, path: str, **router: Any) -> APIRouter:
    """`router`: what APIRouter takes, such as `dependencies` and `tags`. A fresh instance answers each request."""
    routes = APIRouter(**router)
    for verb in VERBS:
        method = getattr(view_class, verb, None)
        if method is not None:
            described = _described(verb, view_class, mark_of(method))
            routes.add_api_route(path, _endpoint(view_class, verb, method), methods=[verb.upper()], response_model=None, **described)
    return routes


def _endpoint(view_class: type, verb: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method, assigned=("__name__", "__doc__"), updated=())
    async def endpoint(**arguments: Any) -> Any:
        handler = getattr(view_class(), verb)
        if inspect.iscoroutinefunction(handler):
            return await handler(**arguments)
        return await run_in_threadpool(handler, **arguments)

    del endpoint.__wrapped__
    endpoint.__signature__ = _signature(verb, method)  # type: ignore[attr-defined]
    return endpoint


def _signature(verb: str, method: Callable[..., Any]) -> inspect.Signature:
    """The method's own parameters without `self`, as FastAPI reads them; `request` is a Request, annotated or not."""
    written = inspect.unwrap(method)
    hints = get_type_hints(written, include_extras=True)
    found = []
    for name, parameter in list(inspect.signature(written).parameters.items())[1:]:
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        annotation = Request if name == "request" else hints.get(name, parameter.annotation)
        found.append(parameter.replace(annotation=annotation, kind=inspect.Parameter.KEYWORD_ONLY))
    return inspect.Signature(found)


def _described(verb: str, view_class: type, mark: JobMark | None) -> dict[str, Any]:
    """For the OpenAPI document."""
    result = _result_schema(mark)
    name = f"{verb}_{view_class.__name__}"
    if verb in ("get", "delete"):
        said = "How a job stands" if verb == "get" else "Cancel a job"
        parameter = {"name": "job_id", "in": "query", "required": False, "schema": schema.JOB_ID}
        answers = {200: _answer(said, schema.status(result)), 404: _answer("No such job", schema.ERROR)}
        return {"name": name, "responses": answers, "openapi_extra": {"parameters": [parameter]}}
    if mark is None:
        return {"name": name}
    answers = {202: _answer("A job was made", schema.CREATED), 400: _answer("The request is wrong", schema.ERROR)}
    return {"name": name, "responses": answers, "status_code": 202 if mark.options.return_job_id else 200}


def _answer(description: str, of: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": of}}}


def _result_schema(mark: JobMark | None) -> dict[str, Any] | None:
    if mark is None:
        return None
    declared = mark.result or get_type_hints(mark.body).get("return")
    return declared.model_json_schema() if hasattr(declared, "model_json_schema") else None
