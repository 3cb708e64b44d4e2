"""What operators do to many tasks, or at set times: actions by filter, dead letters, schedules."""
