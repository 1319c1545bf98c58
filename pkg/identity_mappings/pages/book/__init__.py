"""What only the book shows: its landing page, its pages of tables and of rows, and who publishes it.

A number stands here as a reader of the book meets it; what decides it is in `results`.
"""
