from django.urls import path

from examples.jobs.views import Documents, Questions, Search, Workflows

urlpatterns = [
    path("documents", Documents.as_view(), name="examples-documents"),
    path("search", Search.as_view(), name="examples-search"),
    path("questions", Questions.as_view(), name="examples-questions"),
    path("workflows", Workflows.as_view(), name="examples-workflows"),
]
