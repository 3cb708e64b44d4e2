"""Rows of auctions and bids, in the task store. Append-only."""

from __future__ import annotations

from django.db import models

KEY_LENGTH = 255


class Auction(models.Model):
    """One call for bids and what came of it. Its ranking is kept: a runner-up is found there without a new call."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=32, db_column="_id")
    org_id = models.CharField(max_length=64)
    task_key = models.CharField(max_length=KEY_LENGTH)
    attempt = models.IntegerField(help_text="the attempt it was held for")
    outcome = models.CharField(max_length=24, help_text="awarded, no_bids, too_few_bids, nobody_free, service_failed")
    because = models.TextField(blank=True, default="", help_text="one sentence")
    source = models.CharField(max_length=16, default="bids", help_text="bids, or the org's auction service")
    rule = models.CharField(max_length=16)
    winner = models.CharField(max_length=180, blank=True, default="")
    price = models.FloatField(null=True, help_text="what the winner asked")
    pays = models.FloatField(null=True, help_text="what the winner is paid")
    called = models.IntegerField(default=0, help_text="candidates that were asked")
    bids = models.IntegerField(default=0, help_text="acceptable bids")
    ignored = models.IntegerField(default=0, help_text="answers that did not count by the close")
    took_ms = models.FloatField(default=0.0)
    terms = models.JSONField()
    ranking = models.JSONField(default=list, help_text="the best bids in order, with score parts")
    details = models.JSONField(default=dict, help_text="who was silent, absent, passed over, and why")
    config_version = models.IntegerField(default=0)
    at = models.DateTimeField(help_text="when the call went out")

    class Meta:
        app_label = "agents"
        indexes = [
            models.Index(fields=["task_key", "id"], name="auction_task"),
            models.Index(fields=["org_id", "id"], name="auction_org"),
        ]

    def __str__(self) -> str:
        return f"{self.id}: {self.outcome} {self.winner}".rstrip()


class Bid(models.Model):
    """One answer to a call: a bid with its place, or what came instead and why it does not count."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=64, db_column="_id", help_text="auction id:number, derived")
    auction_id = models.CharField(max_length=32)
    org_id = models.CharField(max_length=64)
    task_key = models.CharField(max_length=KEY_LENGTH)
    agent = models.CharField(max_length=180)
    outcome = models.CharField(max_length=16, help_text="accepted, refused (not acceptable under the terms) or ignored")
    why = models.TextField(blank=True, default="")
    place = models.IntegerField(null=True, help_text="1 is the best")
    price = models.FloatField(null=True)
    eta_s = models.FloatField(null=True)
    confidence = models.FloatField(null=True)
    load = models.FloatField(null=True)
    score = models.FloatField(null=True, help_text="a cost: the lowest wins")
    parts = models.JSONField(default=dict, help_text="what the score is the sum of")
    said = models.TextField(blank=True, default="", help_text="of an ignored answer, its beginning")
    after_ms = models.FloatField(default=0.0, help_text="since the call")
    at = models.DateTimeField()

    class Meta:
        app_label = "agents"
        indexes = [
            models.Index(fields=["auction_id", "id"], name="bid_auction"),
            models.Index(fields=["task_key", "id"], name="bid_task"),
        ]

    def __str__(self) -> str:
        return f"{self.auction_id}: {self.agent} {self.outcome}"
