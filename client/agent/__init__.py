"""The plant agent: the only code that sees a plant's data."""
