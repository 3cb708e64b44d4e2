"""Paths of the inbox: its API and its pages."""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import path

from apps.core.sign_in import limited
from apps.people import api, views

urlpatterns = [
    path("api/v1/inbox", api.InboxView.as_view()),
    path("api/v1/inbox/<str:task_id>", api.OneInInbox.as_view()),
    path("api/v1/inbox/<str:task_id>/start", api.Start.as_view()),
    path("api/v1/inbox/<str:task_id>/progress", api.Progress.as_view()),
    path("api/v1/inbox/<str:task_id>/complete", api.Complete.as_view()),
    path("api/v1/inbox/<str:task_id>/decline", api.Decline.as_view()),
    path("api/v1/inbox/<str:task_id>/fail", api.Fail.as_view()),
    path("inbox/", views.Home.as_view(), name="inbox"),
    path("inbox/login", limited(views.SignIn.as_view()), name="inbox-login"),
    path("inbox/logout", LogoutView.as_view(next_page="inbox-login"), name="inbox-logout"),
    path("inbox/tasks/<str:task_id>", views.OneTask.as_view(), name="inbox-task"),
    path("inbox/tasks/<str:task_id>/<str:act>", views.Act.as_view(), name="inbox-act"),
]
