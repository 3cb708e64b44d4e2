"""Nothing without a mark runs as a job, whatever an address says."""

from __future__ import annotations

import pytest

from apps.jobs import marks
from apps.jobs.marks import UnknownTarget
from tests.integration.jobs_views import views

VIEWS = views.__name__


@pytest.mark.parametrize(
    "target",
    [
        "os:system", "builtins:eval", "subprocess:Popen.__init__", "os", "", ":", "os:", ":system", "os:path.join", "no.such.module:x",
        "os.path:join.__call__", "../x:y", "os;print:system", "o s:system", f"{VIEWS}:seen", f"{VIEWS}:Documents", f"{VIEWS}:Documents.get",
        f"{VIEWS}:Documents.put", f"{VIEWS}:Documents.post.run_now", f"{VIEWS}:Documents.post.__wrapped__", f"{VIEWS}:backend.send",
        f"{VIEWS}:Documents.__init__", "tests.integration.jobs_views.urls:views.Documents.post", "é:é",
    ],
)  # fmt: skip
def test_an_address_of_no_job_is_unknown(target):
    with pytest.raises(UnknownTarget):
        marks.resolve(target)


def test_an_address_finds_what_was_submitted():
    for cls, name in ((views.Documents, "post"), (views.Again, "post"), (views.Eager, "vectorize"), (views.Worker, "double")):
        mark = getattr(cls, name).as_job
        found = marks.resolve(marks.address(cls, mark))
        assert (found.owner_class, found.name, found.mark) == (cls, name, mark)
    assert marks.resolve(marks.address(None, views.triple.as_job)).owner_class is None


def test_an_override_without_a_mark_hands_over_to_its_parents_job():
    found = marks.resolve(f"{VIEWS}:Overriding.post")
    assert (found.owner_class, found.mark) == (views.Overriding, views.Documents.post.as_job)


def test_a_parents_job_is_not_queued_for_a_class_that_has_its_own():
    with pytest.raises(TypeError, match="job of its own"):
        marks.address(views.Again, views.Documents.post.as_job)
