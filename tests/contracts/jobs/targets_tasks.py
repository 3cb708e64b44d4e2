"""A task as code written for django.tasks has it."""

from __future__ import annotations

from django_tasks import TaskContext, task


@task(queue_name="fast", priority=10, takes_context=True)
async def count_words(context: TaskContext, text: str) -> list[int]:
    return [context.attempt, len(text.split())]
