"""The embedded platform: `manage.py up`.

`servers`     what runs: a frozen `Child` per process, and the servers' configuration texts (pure)
`health`      how to see that a child does its work
`place`       the data directory: its lock, ports, secrets, leftovers, and `run/stack.json`
`nursery`     loads the platform once and forks those who run it
`adoption`    how a child that the nursery forked becomes the supervisor's
`supervisor`  starts, watches, restarts and stops the children
`child`       one running child: its process, its output, its deaths
`console`     one readable log of them all
"""
