"""One file a version of the store, with the tables as they were then."""
