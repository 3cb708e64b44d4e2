"""Django's SQLite, with a queue in front of the write lock (`base.py`)."""
