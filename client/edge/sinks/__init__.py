"""Where records go, one file a kind. `open_sink` finds the right one by what is asked for."""
