"""The market: terms, bids, ranking (pure), the records of auctions, and the two ways to hold one (our wire, a service)."""
