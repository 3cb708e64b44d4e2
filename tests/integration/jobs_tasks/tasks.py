"""Tasks as code written for django.tasks has them."""

from __future__ import annotations

from typing import Any

from django_tasks import TaskContext, task


@task()
def noop(*args: Any, **kwargs: Any) -> None:
    return None


@task
def noop_bare(*args: Any, **kwargs: Any) -> None:
    return None


@task()
async def noop_async(*args: Any, **kwargs: Any) -> None:
    return None


@task()
def meaning_of_life() -> int:
    return 42


@task(queue_name="fast", priority=10)
async def double(number: int) -> int:
    return number * 2


@task()
def fails() -> None:
    raise ValueError("This task failed due to ValueError")


@task()
def exits() -> None:
    raise SystemExit("This task failed due to SystemExit")


@task()
def fails_with_an_error_in_an_error() -> None:
    raise ValueError(ValueError("This task failed"))


class OurError(Exception):
    pass


@task()
def fails_in_our_own_way() -> None:
    try:
        raise KeyError("first: a cause")
    except KeyError as error:
        raise OurError("two\nlines: of text") from error


@task()
def gives_what_json_cannot_say() -> Any:
    return lambda: True


@task(takes_context=True)
def own_id(context: TaskContext) -> str:
    return context.task_result.id


@task(takes_context=True)
def own_attempt(context: TaskContext, facts: dict[str, Any]) -> list[Any]:
    return [context.attempt, facts]


@task(backend="flaky", takes_context=True)
def succeeds_the_second_time(context: TaskContext) -> int:
    if context.attempt < 2:
        raise RuntimeError("not yet")
    return context.attempt
