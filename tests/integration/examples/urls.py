from django.urls import include, path

urlpatterns = [path("examples/", include("examples.jobs.urls"))]
