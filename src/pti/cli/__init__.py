"""Command-line handling that every command goes through."""

import os
import sys

try:
    os.getcwd()
except FileNotFoundError:  # before any other import: Python 3.13.0 can't import socket there
    sys.exit(
        "Error: The working directory was deleted. Change to an existing one (cd) and run the command again."
    )
