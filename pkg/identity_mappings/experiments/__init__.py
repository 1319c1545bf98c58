"""What is trained, and by which protocol: the paper's tables row by row, with its numbers, and the studies beside them.

All of it is data. The learning rate and its drops are a protocol's; the loop that obeys them is in `training`.
"""
