"""Data sets and site folders: one file each."""

DATASETS = ("batadal", "historian", "secom", "skab", "smd", "swat", "telemanom", "tep", "wadi")
"""The modules that register data sets, imported when one is asked for: reading a site folder needs no polars."""
