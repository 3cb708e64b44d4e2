"""`python -m jobplatform_sdk.cli` is `jobctl`."""

import sys

from jobplatform_sdk.cli.main import main

sys.exit(main())
