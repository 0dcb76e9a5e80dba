"""`python -m shared` is `crossplant`, for where the console command is not on the path."""

from shared.cli import main

main()
