import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

from apps.core.readiness import settle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")

application = get_wsgi_application()
_ = get_resolver().url_patterns  # loads every view now, and not while the first requests wait
settle()
