import os

from django.core.wsgi import get_wsgi_application

from apps.core.readiness import settle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")

application = get_wsgi_application()
settle()
