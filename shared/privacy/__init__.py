"""Differential privacy: mechanisms, accounting, the ledger, the claim. docs/privacy.md is the text that goes with it.

mechanisms -> what is added to a release, and how much one record can move it
accounting -> what releases cost together
planning   -> noise for a budget, before anything is spent
ledger     -> what was spent, written before a release leaves
claim      -> what may be said about it, in one paragraph
"""
