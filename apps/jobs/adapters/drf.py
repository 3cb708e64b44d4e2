"""Django REST framework: APIView, generic views, view sets. Built against DRF 3.18: `APIView.dispatch` and `Request`."""

from __future__ import annotations

from typing import Any

import orjson
from django.core.exceptions import PermissionDenied
from django.http import Http404, QueryDict
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from apps.core.errors import Forbidden, Malformed
from apps.jobs.adapters import django
from apps.jobs.adapters.base import Asked, fresh
from apps.jobs.answers import Answer
from apps.jobs.snapshot import RequestSnapshot


class DrfAdapter(django.DjangoAdapter):
    kind = "drf"

    def takes(self, value: Any) -> bool:
        return isinstance(value, Request)

    def read(self, view: Any, request: Any, loaded: Any) -> Asked:
        django.check_length(request._request)
        try:
            data, files = request.data, request.FILES
        except RecursionError:  # DRF's own parser has no limit of depth
            raise Malformed("The body is nested far too deep.") from None
        is_form = isinstance(data, QueryDict)
        if is_form:
            # DRF puts the files among the fields.
            data = {name: values for name, values in data.lists() if name not in files}
        return django.asked(self.kind, view, request._request, data=data, is_form=is_form, files=files, user=request.user)

    def respond(self, view: Any, request: Any, answer: Answer) -> Any:
        if not isinstance(view, APIView) or answer.status == 304:
            return super().respond(view, request, answer)
        return Response(answer.body, status=answer.status, headers=dict(answer.headers))

    def rebuild(self, owner_class: type | None, snapshot: RequestSnapshot, user: Any) -> tuple[Any, Any]:
        base = django.JobRequest(snapshot, user)
        view = fresh(owner_class, **django.initkwargs(owner_class, base))
        request = self._set_up(view, base, snapshot) if isinstance(view, APIView) else Request(base)
        request._data, request._files = base.data, base.FILES
        request._full_data = base.data
        if base.FILES and snapshot.is_form:
            request._full_data = base.data.copy()
            request._full_data.update(base.FILES)
        if user is None and api_settings.UNAUTHENTICATED_USER:
            user = api_settings.UNAUTHENTICATED_USER()
        request.user, request.auth, request._authenticator = user, None, None
        return view, request

    def _set_up(self, view: Any, base: django.JobRequest, snapshot: RequestSnapshot) -> Request:
        """As `APIView.dispatch` and the views of view sets do, up to authentication."""
        args, kwargs = snapshot.view_args, django.captured(base, snapshot.view_kwargs)
        view.args, view.kwargs = args, kwargs
        view.action_map = getattr(getattr(base.resolver_match, "func", None), "actions", None) or {}
        request = view.initialize_request(base, *args, **kwargs)
        view.request, view.format_kwarg = request, view.get_format_suffix(**kwargs)
        request.accepted_renderer, request.accepted_media_type = view.perform_content_negotiation(request, force=True)
        request.version, request.versioning_scheme = view.determine_version(request, *args, **kwargs)
        view.headers = view.default_response_headers
        return request

    def admit(self, view: Any, request: Any) -> None:
        if not isinstance(view, APIView):  # whose dispatch asks
            super().admit(view, request)

    def permit(self, view: Any, request: Any) -> None:
        try:
            super().permit(view, request)
            if isinstance(view, APIView):
                view.check_permissions(request)
        except (APIException, PermissionDenied, Http404):
            raise Forbidden("The user of this job may not do that.") from None

    def result(self, value: Any) -> tuple[Any, int | None]:
        if not isinstance(value, Response):
            return super().result(value)
        # What serializers leave in `data` (dates, decimals) as DRF itself writes it.
        return None if value.data is None else orjson.loads(JSONRenderer().render(value.data)), value.status_code
