"""Three agents that really read files. Each is a process of its own on the SDK; what it does is a function of bytes."""
