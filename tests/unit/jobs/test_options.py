import pytest

from apps.jobs.backends.base import band
from apps.jobs.options import Backoff, JobOptions, pause_before_retry
from apps.jobs.queues import get, job_queues
from apps.jobs.results import NotJson, plain, sentence
from apps.jobs.states import ENDED, JOB_STATES, OPEN, JobStatus
from jobplatform.env import BASE_DIR
from jobplatform.queues import JOB_QUEUES, QUICK_JOBS


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queue": "fsat"}, 'did you mean "fast"'),
        ({"queue": 5}, "queue must be a string"),
        ({"queue": "fast", "timeout": 31}, 'timeout must be above 0 and at most 30 on the queue "fast", not 31'),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "30"}, "timeout must be a number"),
        ({"timeout": float("nan")}, "timeout"),
        ({"memory_mb": 10**9}, "memory_mb"),
        ({"result_ttl": -1}, "result_ttl"),
        ({"priority": 101}, "priority"),
        ({"priority": "urgent"}, "priority must be one of low, normal, high"),
        ({"priority": True}, "priority"),
        ({"retries": -1}, "retries"),
        ({"retries": 1.5}, "retries"),
        ({"retry_backoff": {"factor": 0.5}}, "factor"),
        ({"retry_backoff": {"initial": 1}}, "initial"),
        ({"retry_delays": [-1]}, "retry_delays"),
        ({"depends_on": "job_1"}, "depends_on must be a list"),
        ({"depends_on_when": "never"}, "depends_on_when"),
        ({"delay": 1, "not_before": "soon"}, "one of them"),
        ({"not_before": "soon"}, "not_before"),
        ({"return_job_id": "no"}, "return_job_id"),
        ({"unique_key": 7}, "unique_key"),
        ({"webhook_url": 7}, "webhook_url"),
        ({"wait": True}, "wait"),
    ],
)
def test_an_option_that_cannot_be_is_named_where_it_is_written(options, said):
    with pytest.raises((TypeError, ValueError), match=said.replace("(", r"\(")):
        JobOptions(**options)


def test_what_is_not_said_is_the_queues():
    assert (JobOptions().limit_s, JobOptions(queue="fast").limit_s, JobOptions(queue="fast", timeout=5).limit_s) == (7200, 30, 5)
    assert (JobOptions().result_ttl, JobOptions().queue, JobOptions().timeout, JobOptions().return_job_id) == (500, "default", None, True)


def test_functions_of_the_request_are_called_with_it():
    options = JobOptions(priority=lambda request: request["priority"], delay=lambda _: 5, depends_on=lambda _: ["a", "a"])
    found = options.resolved({"priority": "high"})
    assert (found.priority, found.delay, found.depends_on) == (50, 5, ("a",))
    with pytest.raises(ValueError, match="priority"):
        options.resolved({"priority": 1000})


def test_pauses_grow_up_to_a_bound_and_end_with_the_attempts():
    options = JobOptions(retries=3, retry_backoff={"initial_s": 1, "factor": 3, "max_s": 5}).json()
    assert [pause_before_retry(options, failed=number, random=0.5) for number in (1, 2, 3, 4)] == [1, 3, 5, None]
    listed = JobOptions(retries=3, retry_delays=[1, 10]).json()
    assert [pause_before_retry(listed, failed=number, random=0.5) for number in (1, 2, 3, 4)] == [1, 10, 10, None]
    assert Backoff(jitter=0.5).pause(1, 1.0) == 0.5
    assert Backoff(factor=10, max_s=60).pause(10_000, 0) == 60


def test_the_bands_of_priorities():
    assert [band(priority) for priority in (-100, -1, 0, 1, 100)] == ["low", "low", "normal", "high", "high"]


def test_own_queues_come_from_a_setting(settings):
    settings.JOBS_QUEUES = ["video:60:512", "mail"]
    assert (get("video").time_limit_s, get("video").memory_mb, get("mail").time_limit_s) == (60, 512, 7200)
    assert {"video", "mail"} < {queue.name for queue in job_queues(["long"])}
    assert [queue.name for queue in job_queues(["fast", "video", "fast"])] == ["fast", "video"]
    assert {"fast", "gpu", "embeddings", "video"} < {queue.name for queue in job_queues()}


def test_no_state_leads_back():
    assert all(not JOB_STATES.allows(end, start) for end in ENDED for start in OPEN)
    assert JOB_STATES.is_terminal(JobStatus.EXPIRED)


def test_results_become_plain_json_or_are_refused():
    assert plain({"a": {"y", "x"}, "b": (1, 2)}) == {"a": ["x", "y"], "b": [1, 2]}
    for wrong in (object(), float("inf"), {"a": float("nan")}, "\0", "\ud800", {b"a": 1}):
        with pytest.raises(NotJson):
            plain(wrong)
    assert plain("\U0001f600") == "\U0001f600"


def test_what_an_owner_reads_of_an_error_holds_no_secret():
    assert sentence(ValueError("no page\nmore")) == "ValueError: no page"
    assert sentence(KeyError()) == "KeyError"
    said = sentence(RuntimeError("postgres://app:hunter2@db/x failed, api_key=abc, Bearer xyz"))
    assert "hunter2" not in said and "abc" not in said and "xyz" not in said


def test_the_page_on_running_jobs_lists_every_queue_with_its_limits():
    page = (BASE_DIR / "docs" / "jobs-running.md").read_text()
    for queue in JOB_QUEUES:
        group = "quick" if queue in QUICK_JOBS else "long"
        assert f"| `{queue.name}` | {group} | {queue.time_limit_s} | {queue.memory_mb} | {queue.meaning} |" in page
