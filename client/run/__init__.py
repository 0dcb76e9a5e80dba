"""A plant as real processes: agent, SuperNode and executor, under one supervisor."""
