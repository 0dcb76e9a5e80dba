"""The report of a run for the people at the plants: one HTML file; and what reports share (`canvas`, `table`)."""
