"""Of this package; the User-Agent of the client says it."""

VERSION = "1.0.0"
