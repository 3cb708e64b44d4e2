"""Organizations, what they want (config), the keys that open their doors, and who changed what."""

from __future__ import annotations

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from apps.core import clock, ids


class Org(models.Model):
    org_id = models.CharField(
        "org id", primary_key=True, max_length=64, validators=[RegexValidator(rf"\A{ids.ORG_ID.pattern}\Z")],
        help_text="letters, digits and . _ - ; never changes",
    )  # fmt: skip
    name = models.CharField(max_length=200, blank=True, default="")
    is_active = models.BooleanField("active", default=True, help_text="the keys of an inactive organization open nothing")
    config_version = models.IntegerField(default=0, editable=False, help_text="rises with every change of its configuration")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = "organization"

    def __str__(self) -> str:
        return self.name or self.org_id


class ApiKey(models.Model):
    """A key is shown once and stored as a hash of its secret part (`apps.orgs.keys`)."""

    class Role(models.TextChoices):
        SUBMITTER = "submitter", "Submitter"
        OPERATOR = "operator", "Operator"
        ORG_ADMIN = "org_admin", "Org admin"
        AGENT = "agent", "Agent"

    key_id = models.CharField("key id", primary_key=True, max_length=24)
    org = models.ForeignKey(Org, on_delete=models.CASCADE, related_name="api_keys")
    role = models.CharField(max_length=16, choices=Role.choices)
    subject_id = models.CharField(
        "subject", max_length=180, blank=True, default="", help_text="whom the key speaks for; agents must have one"
    )
    name = models.CharField(max_length=200, blank=True, default="", help_text="what people call it: “CI of team blue”")
    secret_hash = models.CharField(max_length=64, editable=False, help_text="SHA-256 of the secret")
    nats_public_key = models.CharField(
        "NATS key", max_length=64, blank=True, default="", editable=False, help_text="agents: the nkey that NATS knows"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="empty: never")
    rate_limit_per_minute = models.FloatField(
        null=True, blank=True, validators=[MinValueValidator(0.01), MaxValueValidator(10_000_000)],
        help_text="new tasks a minute with this key; empty: what the org allows each of its keys (key_rate_limit_per_minute)",
    )  # fmt: skip
    rate_limit_burst = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(10_000_000)],
        help_text="so many of them at once; empty: a minute's worth",
    )  # fmt: skip
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.key_id} ({self.org_id}, {self.role})"


class OrgConfigParameter(models.Model):
    """One value of one config key of one org, as set (`apps.orgs.config_keys` says what it may be)."""

    org = models.ForeignKey(Org, on_delete=models.CASCADE, related_name="parameters")
    key = models.CharField(max_length=64)
    value = models.JSONField(null=True, blank=True)
    version = models.IntegerField(default=1)
    changed_at = models.DateTimeField()
    changed_by = models.CharField(max_length=255)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["org", "key"], name="one_value_per_key")]
        verbose_name = "configuration parameter"

    def __str__(self) -> str:
        return f"{self.org_id} {self.key}={self.value!r}"


class Purge(models.Model):
    """An organization that is being removed with everything of it (`apps.retention.purge`): the intent, and how far it is."""

    org_id = models.CharField("org", primary_key=True, max_length=64)
    by = models.CharField(max_length=255)
    at = models.DateTimeField()
    touched_at = models.DateTimeField(help_text="last sign of life of whoever does it")
    table = models.CharField(max_length=100, blank=True, default="", help_text="where the last slice ended")
    found = models.IntegerField(default=0, help_text="rows found in this round; the last round finds none")
    rows = models.JSONField(default=dict, help_text="removed so far, by table")

    def __str__(self) -> str:
        return self.org_id


class ShutKey(models.Model):
    """The NATS key of an agent of a purged organization. Its JWT is out there and signed: NATS must go on refusing it."""

    nats_public_key = models.CharField(primary_key=True, max_length=64)
    expires_at = models.DateTimeField(null=True, help_text="the JWT is worth nothing from then on")

    def __str__(self) -> str:
        return self.nats_public_key


class _AppendOnly(models.QuerySet["Change"]):
    def update(self, **_fields: Any) -> int:
        raise TypeError("the audit trail is append-only")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise TypeError("the audit trail is append-only")


class Change(models.Model):
    """The audit trail: who changed what, from what to what, when. Append-only; goes with the org when that is purged, which is a
    line of the platform's own (org ""). Secrets are masked."""

    class Kind(models.TextChoices):
        CONFIG = "config", "Configuration"
        API_KEY = "api_key", "API key"
        ORG = "org", "Organization"
        ROLE = "role", "Role"
        SUBJECT = "subject", "Subject"
        POLICY = "policy", "Policy script"
        WEBHOOK = "webhook", "Webhook"
        TASK = "task", "Task"
        QUEUE = "queue", "Queue"
        AGENT = "agent", "Agent"
        SCHEDULE = "schedule", "Schedule"
        ROLE_SERVICE = "role_service", "Role service"

    org_id = models.CharField("org", max_length=64)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    key = models.CharField(max_length=180, help_text="the config key, or the id of what changed")
    old = models.JSONField(null=True)
    new = models.JSONField(null=True)
    by = models.CharField(max_length=255)
    at = models.DateTimeField()
    request_id = models.CharField("request", max_length=64, blank=True, default="", help_text="the HTTP request that did it")

    objects = _AppendOnly.as_manager()

    class Meta:
        indexes = [models.Index(fields=["org_id", "-id"], name="change_by_org")]
        ordering = ["-id"]
        verbose_name = "change"
        verbose_name_plural = "audit trail"

    def __str__(self) -> str:
        return f"{self.org_id} {self.kind} {self.key}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None:
            raise TypeError("the audit trail is append-only")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("the audit trail is append-only")
