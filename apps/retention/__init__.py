"""What is kept for how long, and how an organization is removed with everything of it."""
