"""Whose machines train, and how fast: benches, clusters, contributed runs, what to run next, where devices disagree.

How one machine trains, several runs at once and budgets included, is in `training`.
"""
