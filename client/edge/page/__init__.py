"""The plant's own page: `crossplant client page`, a process of its own on 127.0.0.1. Standard library only."""
