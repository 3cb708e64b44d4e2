"""The port to a web framework. Which adapter a call belongs to follows from the request it was given."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.core.files.uploadedfile import UploadedFile

from apps.core.errors import Forbidden, PlatformError
from apps.core.streaming import Stream
from apps.jobs import answers
from apps.jobs.answers import Answer
from apps.jobs.snapshot import RequestSnapshot


@dataclass(frozen=True, kw_only=True)
class Asked:
    """All of a request that can travel."""

    snapshot: RequestSnapshot
    """without files"""
    uploads: Sequence[tuple[str, UploadedFile]] = ()
    user: Any = None


class Adapter:
    """Framework-free by itself; each framework overrides what it does in its own way."""

    kind = ""
    same_thread = False
    """An async view's database work belongs in the thread that the framework keeps for it"""

    def takes(self, value: Any) -> bool:
        """Whether `value` is a request of this framework."""
        raise NotImplementedError

    # ---- in the web process -------------------------------------------------------------------------------

    async def aload(self, request: Any) -> Any:
        """What can only be read on the event loop; handed to `read`."""
        return None

    def load(self, request: Any) -> Any:
        """As `aload`, for a method that is not async."""
        return None

    def user(self, request: Any) -> Any:
        """Who asks, as the framework knows him; None for nobody."""
        return getattr(request, "user", None)

    def header(self, request: Any, name: str) -> str:
        """ "" when there is none."""
        return next((value for key, value in dict(getattr(request, "headers", None) or {}).items() if key.lower() == name), "")

    def query(self, request: Any, name: str) -> str | None:
        raise NotImplementedError

    def method(self, request: Any) -> str:
        return getattr(request, "method", None) or "GET"

    def path(self, request: Any) -> str:
        """Where its status is asked for; "" when there is no such place."""
        raise NotImplementedError

    def read(self, view: Any, request: Any, loaded: Any) -> Asked:
        """Raises TooLarge, UnsupportedMedia, Malformed, Invalid."""
        raise NotImplementedError

    def respond(self, view: Any, request: Any, answer: Answer) -> Any:
        raise NotImplementedError

    def refuse(self, view: Any, request: Any, error: PlatformError) -> Any:
        return self.respond(view, request, answers.refused(error))

    def stream(self, request: Any, chunks: Stream) -> Any:
        """Server-sent events."""
        raise NotImplementedError

    def not_allowed(self, view: Any, request: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The framework's own answer to a method that the view does not have."""
        body = {"success": False, "error": "This path does not take that method.", "status_code": 405}
        return self.respond(view, request, Answer(status=405, body=body))

    def admit(self, view: Any, request: Any) -> None:
        """The view's own permissions, where the framework has not asked them before the method. Raises Forbidden."""
        check = getattr(view, "check_permissions", None)
        if check is None:
            return
        answer = async_to_sync(check)(request) if inspect.iscoroutinefunction(check) else check(request)
        if answer is False:
            raise Forbidden("You may not do that.")

    # ---- in a worker --------------------------------------------------------------------------------------

    def rebuild(self, owner_class: type | None, snapshot: RequestSnapshot, user: Any) -> tuple[Any, Any]:
        """(a fresh instance of the class, the request). `user` is None for nobody."""
        raise NotImplementedError

    def permit(self, view: Any, request: Any) -> None:
        """All of the view's permissions, asked again. Raises Forbidden."""
        self.admit(view, request)

    def typed(self, request: Any, name: str, value: Any) -> Any:
        """An argument as the URL captured it (an id as UUID …) instead of its text."""
        return value

    def result(self, value: Any) -> tuple[Any, int | None]:
        """What a method returned: its value, and the HTTP status when it was a response."""
        return value, None


def fresh(owner_class: type | None, **arguments: Any) -> Any:
    """The instance a job runs on; None for a plain function."""
    return None if owner_class is None else owner_class.for_job(**arguments)
