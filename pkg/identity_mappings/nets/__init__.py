"""The networks: orders of activation, shortcuts, BN, Residual Units, ResNets by spec and by name, and what they cost.

Figs. 1, 2, 4 and 5 and the appendix's words on the first unit, the last one, projections and initial weights. How
they are trained is in `experiments` and `training`; what is computed about them, in `analysis`.
"""
