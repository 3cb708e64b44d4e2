"""Organizations, what they want (config), and the keys that open their doors."""

from __future__ import annotations

from django.db import models


class Org(models.Model):
    org_id = models.CharField(primary_key=True, max_length=64)
    name = models.CharField(max_length=200, blank=True, default="")
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "organization"

    def __str__(self) -> str:
        return self.org_id


class ApiKey(models.Model):
    """A key is shown once and stored as a hash of its secret part."""

    class Role(models.TextChoices):
        SUBMITTER = "submitter"
        OPERATOR = "operator"
        ORG_ADMIN = "org_admin"
        AGENT = "agent"

    key_id = models.CharField(primary_key=True, max_length=24)
    org = models.ForeignKey(Org, on_delete=models.CASCADE, related_name="api_keys")
    role = models.CharField(max_length=16, choices=Role.choices)
    subject_id = models.CharField(max_length=180, blank=True, default="", help_text="whom the key speaks for; agents must have one")
    name = models.CharField(max_length=200, blank=True, default="")
    secret_hash = models.CharField(max_length=64, help_text="SHA-256 of the secret")
    nats_public_key = models.CharField(max_length=64, blank=True, default="", help_text="agents: the nkey that NATS knows")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.key_id} ({self.org_id}, {self.role})"


class OrgConfigParameter(models.Model):
    """One value of one config key of one org. The database is the truth; Redis caches each under its own key."""

    org = models.ForeignKey(Org, on_delete=models.CASCADE, related_name="parameters")
    key = models.CharField(max_length=64)
    value = models.JSONField(null=True)
    version = models.IntegerField(default=1)
    changed_at = models.DateTimeField()
    changed_by = models.CharField(max_length=255)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["org", "key"], name="one_value_per_key")]
        verbose_name = "configuration parameter"

    def __str__(self) -> str:
        return f"{self.org_id} {self.key}={self.value!r}"
