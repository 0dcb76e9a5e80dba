"""Checks before a start, at a plant and at the operator: each says what it found, and how to mend it."""
