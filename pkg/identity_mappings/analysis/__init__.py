"""Sections 2 to 4.2 in numbers: both sides of Eqs. 4 to 8 on a stack of units, and what units do inside a network."""
