"""`crossplant data show` and `data list`: a site's tags over time as one HTML file, and what lies where."""
