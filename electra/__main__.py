"""`python -m electra`."""

from electra.cli import main

main()
