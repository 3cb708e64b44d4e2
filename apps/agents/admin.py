"""The agents room in the admin."""

from __future__ import annotations

from apps.agents import admin_agents as admin_agents
from apps.agents import admin_auctions as admin_auctions
