"""No framework: a class of your own, called from anywhere. Calls answer dictionaries and raise what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.datastructures import MultiValueDict

from apps.core.errors import PlatformError
from apps.core.streaming import Stream, closing
from apps.jobs.adapters.base import Adapter, Asked, fresh
from apps.jobs.answers import Answer
from apps.jobs.files import as_uploads
from apps.jobs.snapshot import RequestSnapshot, allowed_headers


@dataclass(kw_only=True)
class PlainRequest:
    """A request for whoever has none: what jobs look at, and nothing else."""

    data: Any = None
    method: str = "POST"
    path: str = ""
    query_params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    user: Any = None
    FILES: Any = field(default_factory=MultiValueDict)

    def close(self) -> None:
        for _, uploads in self.FILES.lists():
            for upload in uploads:
                upload.close()


class PlainAdapter(Adapter):
    kind = "plain"

    def takes(self, value: Any) -> bool:
        """Ours, and whatever else has all that a request has."""
        return isinstance(value, PlainRequest) or all(hasattr(value, name) for name in ("method", "headers", "data", "user"))

    def query(self, request: Any, name: str) -> str | None:
        return (getattr(request, "query_params", None) or {}).get(name)

    def path(self, request: Any) -> str:
        return getattr(request, "path", "") or ""

    def read(self, view: Any, request: Any, loaded: Any) -> Asked:
        if request is None:
            return Asked(snapshot=RequestSnapshot(kind=self.kind))
        query = MultiValueDict(_lists(getattr(request, "query_params", None) or {}))
        files = getattr(request, "FILES", None) or MultiValueDict()
        snapshot = RequestSnapshot(
            kind=self.kind,
            method=self.method(request),
            path=self.path(request),
            query=dict(query.lists()),
            headers=allowed_headers(dict(getattr(request, "headers", None) or {}).items()),
            data=request.data,
        )
        return Asked(snapshot=snapshot, uploads=[(name, each) for name in files for each in files.getlist(name)], user=self.user(request))

    def respond(self, view: Any, request: Any, answer: Answer) -> Any:
        return answer.body

    def refuse(self, view: Any, request: Any, error: PlatformError) -> Any:
        raise error

    def stream(self, request: Any, chunks: Stream) -> Any:
        return closing(chunks)

    def rebuild(self, owner_class: type | None, snapshot: RequestSnapshot, user: Any) -> tuple[Any, Any]:
        request = PlainRequest(
            data=snapshot.data,
            method=snapshot.method,
            path=snapshot.path,
            query_params=MultiValueDict(snapshot.query),
            headers=snapshot.headers,
            user=user,
            FILES=as_uploads(snapshot.files),
        )
        return fresh(owner_class), request


def _lists(query: Mapping[str, Any]) -> dict[str, list[str]]:
    if hasattr(query, "lists"):
        return dict(query.lists())
    return {name: list(value) if isinstance(value, (list, tuple)) else [value] for name, value in query.items()}
