"""`python -m prithvi`."""

from prithvi.cli import main

main()
