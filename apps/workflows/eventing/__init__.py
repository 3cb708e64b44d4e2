"""Events in and out: the manager, its transports, the agency's topics."""
