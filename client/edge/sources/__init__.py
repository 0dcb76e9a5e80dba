"""Where readings come from, one file a kind. `open_source` finds the right one by what is asked for."""
