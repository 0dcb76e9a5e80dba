"""The edge runtime: scores live readings at the plant, raises alarms, goes on when the coordinator is gone.

It needs NumPy and onnxruntime; torch, Flower and Opacus are never imported here (an import contract and a test say so).

    source -> Sample -> Engine (scorer, guard, sensor faults, drift, alarms, shadow) -> records -> sinks
"""
