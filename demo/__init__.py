"""The demo: every file of a folder becomes a task, on a platform of its own (`make demo`)."""
