"""Frameworks. An adapter reads a request of its framework, answers in it, and builds the request again in a worker."""
