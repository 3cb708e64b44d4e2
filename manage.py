#!/usr/bin/env python
"""Entry point of every management command: `up`, `doctor`, `create_api_key`, `migrate`, …"""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
    from django.core.management import execute_from_command_line

    from jobplatform import env

    env.choose_data_dir(sys.argv)
    if sys.argv[1:2] == ["up"]:
        # It starts everybody else: they need not wait for models that it never looks at.
        from jobplatform.management.commands.up import Command

        Command().run_from_argv(sys.argv)
    else:
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
