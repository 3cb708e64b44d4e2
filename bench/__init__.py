"""How fast, how soon, and at what cost, beside raw Celery on the same broker (`make bench`). A lost or wrong task fails it."""
