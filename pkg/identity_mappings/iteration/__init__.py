"""One iteration: from a batch to the update, taken plainly, compiled or recorded, and whether it fits and agrees.

What repeats it to a record, and keeps what it leaves, is in `training`; nothing here knows of runs or files.
"""
