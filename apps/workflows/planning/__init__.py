"""What must happen next: pure functions over snapshots."""
