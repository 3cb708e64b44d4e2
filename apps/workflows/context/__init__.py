"""What sessions know, and what they may look up."""
