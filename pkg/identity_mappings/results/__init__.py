"""What has been measured: the runs' records, and the statistics, tables, claims and costs that are made from them.

Everything here is text and numbers; what draws them is in `pages`.
"""
