"""Paths of webhooks. Included at the root."""

from __future__ import annotations

from django.urls import path

from apps.webhooks import api

urlpatterns = [
    path("api/v1/webhooks", api.Endpoints.as_view()),
    path("api/v1/webhooks/<str:endpoint_id>", api.OneEndpoint.as_view()),
    path("api/v1/webhooks/<str:endpoint_id>/rotate-secret", api.RotateSecret.as_view()),
    path("api/v1/webhooks/<str:endpoint_id>/ping", api.Ping.as_view()),
    path("api/v1/webhooks/<str:endpoint_id>/replay", api.ReplaySince.as_view()),
    path("api/v1/webhooks/<str:endpoint_id>/deliveries", api.Deliveries.as_view()),
    path("api/v1/webhooks/<str:endpoint_id>/deliveries/<str:delivery_id>", api.OneDelivery.as_view()),
    path("api/v1/webhooks/<str:endpoint_id>/deliveries/<str:delivery_id>/replay", api.Replay.as_view()),
]
