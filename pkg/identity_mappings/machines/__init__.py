"""Many machines: runs on a cluster, runs that others contribute, what is worth running next, where devices disagree.

What one machine does by itself, several runs at once and budgets included, is in `training`.
"""
