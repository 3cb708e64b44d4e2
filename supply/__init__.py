"""What the platform is made of and what may not be in it: locks, licences, a bill of materials, secrets. Never imported by it."""
