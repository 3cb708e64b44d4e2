import os
import sys

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

from apps.core.readiness import settle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")

# Beside a thread that takes in thousands of tasks, every look at Redis or the database ends with a wait for the interpreter:
# of this long, ten times a request (Python's default is 5 ms).
sys.setswitchinterval(0.001)

application = get_wsgi_application()
_ = get_resolver().url_patterns  # loads every view now, and not while the first requests wait
settle()
