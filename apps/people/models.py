"""Which person signs in as whom."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models

from apps.roles.models import Subject


class Login(models.Model):
    """A user of the pages is one subject of one org; a subject has one user."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="person")
    subject = models.OneToOneField(
        Subject, on_delete=models.CASCADE, related_name="login", help_text="whose inbox opens; a subject of type human"
    )

    class Meta:
        verbose_name = "sign-in"

    def __str__(self) -> str:
        return f"{self.user} is {self.subject} of {self.subject.org_id}"

    def clean(self) -> None:
        subject = getattr(self, "subject", None)
        if subject and subject.subject_type != Subject.Type.HUMAN:
            raise ValidationError({"subject": "Only a subject of type human can sign in."})
