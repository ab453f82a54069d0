"""`python -m obms`."""

from obms.cli import main

main()
