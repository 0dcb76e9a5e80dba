"""`python -m shared` is `crossplant`, for where the console command is not on the path."""

import sys

try:
    from shared.cli import main

    main()
except KeyboardInterrupt:  # Before or after `main` could catch it.
    sys.stderr.write("Interrupted.\n")
    sys.exit(130)
