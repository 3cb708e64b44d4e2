"""`jobctl`, the command line: submit tasks, watch them, steer them."""

from jobplatform_sdk.cli.main import main

__all__ = ["main"]
