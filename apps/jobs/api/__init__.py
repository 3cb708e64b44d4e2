"""Jobs over HTTP, for who has a key of the org: look, follow, cancel, try again. A view's own status URL is another door."""
