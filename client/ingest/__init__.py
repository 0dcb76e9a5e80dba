"""Data sets and site folders: one file each."""

DATASETS = ("batadal", "skab", "telemanom")
"""The modules that register data sets, imported when one is asked for: reading a site folder needs no polars."""
