"""A federation's certificate authority and its roster of plants: `crossplant provision`, the operator's side."""
