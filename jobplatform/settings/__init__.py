"""Django settings. Values come from `jobplatform.env`; nothing here reads the environment itself."""

from __future__ import annotations

from jobplatform import env
from jobplatform.settings.databases import databases
from jobplatform.settings.logs import logging_config

BASE_DIR = env.BASE_DIR
DATA_DIR = env.data_dir()
SECRET_KEY = env.secret_key()
DEBUG = env.flag("DEBUG")
ALLOWED_HOSTS = env.csv("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1],testserver")

REDIS_URL = env.server_url("REDIS_URL", "redis", "redis://127.0.0.1:6379/0")
REDIS_PREFIX = env.text("REDIS_PREFIX", "jp")
# RQ looks at the environment when it is first imported: it must meet the same keys in every process.
env.set_default("RQ_KEY_PREFIX", f"{REDIS_PREFIX}:rq")
RQ_KEY_PREFIX = env.text("RQ_KEY_PREFIX")
NATS_PUBLIC_URL = env.text("NATS_PUBLIC_URL")
NATS_URL = env.server_url("NATS_URL", "nats", "nats://127.0.0.1:4222")
NATS_REPLICAS = env.number("NATS_REPLICAS", 1)
OTEL_EXPORTER_OTLP_ENDPOINT = env.text("OTEL_EXPORTER_OTLP_ENDPOINT")
METRICS_TOKEN = env.text("METRICS_TOKEN")
READY_FILE = env.text("JOBPLATFORM_READY_FILE")
POLICY_PROCESSES = env.number("POLICY_PROCESSES", 2)
WEB_MAX_WAITING = env.number("WEB_MAX_WAITING", 48)
VECTOR_STORE = env.text("VECTOR_STORE")
TEXT_EMBEDDER = env.text("TEXT_EMBEDDER") or "apps.workflows.context.embedding_hashing.HashingEmbedder"
# Code written for `django.tasks` (Django 6, or the package django-tasks) runs as jobs.
TASKS = {"default": {"BACKEND": "apps.jobs.django_tasks.JobsBackend"}}
JOBS_BACKEND = env.text("JOBS_BACKEND") or "celery"
JOBS_QUEUES = env.csv("JOBS_QUEUES", "")
JOBS_LEASE_S = env.number("JOBS_LEASE_S", 30)
JOBS_GRACE_S = env.number("JOBS_GRACE_S", 5)
JOBS_STOP_S = env.number("JOBS_STOP_S", 5)
JOBS_CONCURRENCY = env.number("JOBS_CONCURRENCY", 2)
JOBS_KEEP_DAYS = env.number("JOBS_KEEP_DAYS", 7)
JOBS_MAX_WAIT_S = 60
JOBS_MAX_REQUEST_BYTES = env.number("JOBS_MAX_REQUEST_BYTES", 1024 * 1024)
JOBS_MAX_UPLOAD_BYTES = env.number("JOBS_MAX_UPLOAD_BYTES", 100 * 1024 * 1024)
JOBS_MAX_FILES = 20
# What a job's method may see of the headers of its request; credentials never travel, also when they are listed here.
JOBS_REQUEST_HEADERS = ["accept", "accept-language", "content-type", "user-agent", "x-request-id", "traceparent"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    # Uploads of jobs. Web and workers on several machines share an object store instead.
    "jobs": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": env.text("JOBS_FILES") or str(DATA_DIR / "job-files"), "base_url": None},
    },
}
EVENT_TRANSPORTS = env.csv("EVENT_TRANSPORTS", "")
EVENT_ORGS = env.csv("EVENT_ORGS", "")
KAFKA_BOOTSTRAP_SERVERS = env.text("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
KAFKA_GROUP = env.text("KAFKA_GROUP", "jobplatform")
KAFKA_TOPIC_PREFIX = env.text("KAFKA_TOPIC_PREFIX")
KAFKA_OPTIONS = env.strings("KAFKA_OPTIONS")
OUTBOUND_ALLOW = env.csv("OUTBOUND_ALLOW", "")
OUTBOUND_CA_FILE = env.text("OUTBOUND_CA_FILE")
TASK_PROCESSORS = env.csv("TASK_PROCESSORS", "")
EXTRA_URLS = env.csv("EXTRA_URLS", "")
EXAMPLES = env.flag("EXAMPLES")
FAILPOINTS = env.text("FAILPOINTS")
FAILPOINTS_ONCE = env.text("FAILPOINTS_ONCE")

CELERY_BROKER_URL = env.text("CELERY_BROKER_URL") or REDIS_URL
CELERY_RESULT_BACKEND = REDIS_URL
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # On a Redis that others use too, nobody's worker takes what is ours.
    "global_keyprefix": f"{REDIS_PREFIX}:broker:",
    "visibility_timeout": 600,
    "socket_keepalive": True,
    "health_check_interval": 10,
    # A hint is sent now or not at all; waiting for a broker would hold up whoever wrote the truth.
    "max_retries": 0,
}
CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS = {"global_keyprefix": f"{REDIS_PREFIX}:celery:"}
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"

INSTALLED_APPS = [
    "jobplatform.apps.AdminConfig",  # its pages load with the URLs: workers need none of them
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_celery_results",
    "apps.core",
    "apps.orgs",
    "apps.roles",
    "apps.dsl",
    "apps.agents",
    "apps.tasks",
    "apps.people",
    "apps.webhooks",
    "apps.workflows",
    "apps.jobs",
    "apps.retention",
    "jobplatform.apps.PlatformConfig",
]
MIDDLEWARE = [
    "apps.core.http.EdgeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "jobplatform.urls"
WSGI_APPLICATION = "jobplatform.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "jobplatform" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = databases()
DATABASE_ROUTERS = ["jobplatform.settings.databases.TasksRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = ["jobplatform.formats"]

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = True

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
# Behind a proxy that ends TLS: forms are believed when they come from there, and cookies travel on TLS only.
PUBLIC_URL = env.text("PUBLIC_URL").rstrip("/")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []
if PUBLIC_URL.startswith("https://"):
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    # Redirecting to TLS, and speaking for subdomains, is up to the proxy and whoever owns the domain.
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021"]
TRUSTED_PROXIES = env.number("TRUSTED_PROXIES", 1 if PUBLIC_URL else 0)
LOGIN_FAILURES = env.number("LOGIN_FAILURES", 5)
LOGIN_WINDOW_S = env.number("LOGIN_WINDOW_S", 300)
CSRF_FAILURE_VIEW = "jobplatform.pages.stale_form"
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.orgs.access.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["apps.orgs.access.AdminsOnly"],
    "DEFAULT_PARSER_CLASSES": ["apps.core.http.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "apps.core.http.AlwaysJson",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "apps.core.http.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Job platform",
    "DESCRIPTION": "Policy-driven distributed task platform: submit tasks, follow them, and ask why.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "PREPROCESSING_HOOKS": ["apps.jobs.openapi.describe"],
    # The docs are public; a key given in their "Authorize" box is only sent with the requests tried out.
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    # Three things of the API have a `state`; each keeps its own name in the document.
    "ENUM_NAME_OVERRIDES": {
        "AgentStateEnum": ["active", "paused", "draining", "drained", "revoked", "inactive"],
        "DeliveryStateEnum": ["pending", "delivered", "failed"],
        "EnrolmentStateEnum": ["open", "redeemed", "withdrawn", "expired"],
        "PolicyVersionStatusEnum": "apps.dsl.models.PolicyScript.Status",
    },
}

LOGGING = logging_config(level=env.text("LOG_LEVEL", "INFO"), form=env.text("LOG_FORMAT", "text"))
