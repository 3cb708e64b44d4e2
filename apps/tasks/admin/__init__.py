"""The pages of tasks in the admin: tasks and their history, why, the queues, and what operators run over many."""

from apps.tasks.admin import explain, operating, queue, tasks

__all__ = ["explain", "operating", "queue", "tasks"]
