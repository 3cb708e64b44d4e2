"""The session document: read, checked whole, as values."""
