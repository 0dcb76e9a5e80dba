"""The plant agent: the only code that sees a plant's data."""

import logging

# Without a handler of its own, Python prints warnings to stderr, where the command line writes one line of its own.
logging.getLogger("client").addHandler(logging.NullHandler())
