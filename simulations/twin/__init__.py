"""The process twin: a simulated water-treatment plant (SWaT's tags) and distribution network (WADI's)."""
