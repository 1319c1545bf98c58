# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A row of Table 2: the order of activation
#
# Table 2 keeps the parts of a unit and moves batch normalisation and ReLU to either side of the addition. Each order is
# compared with the original one at the same depth.

# %%
import sys
from importlib.util import find_spec

if find_spec("identity_mappings") is None:
    sys.path.insert(0, "../pkg")

from identity_mappings import commands
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.pages import show

# %% tags=["parameters"]
table = 2
# Another row: `164-original`; `invoke status` lists all.
row = "164-full-pre-activation"
# smoke: digits, on a CPU. pocket: CIFAR at 16x16, on a CPU. quick: CIFAR, a tenth of the schedule. paper: all.
tier = "smoke"
# A number of seeds, or a list of them. 5 for a median like the paper's.
seeds = 1
# "iterations-100" or "depth-20" cuts any tier but the paper's further.
reduction = ""
# "25m" stops in time, with checkpoints: run this notebook again to go on.
budget = ""

# %% [markdown]
# ## Training
#
# Runs that have a record are not trained again; a run that was stopped goes on from its checkpoint.

# %%
planned, device, *_ = commands.planned(table, [row], tier, seeds, Reduction.parse(reduction))
outcomes = commands.train_runs(planned, device, precision="fp32", budget=budget)
commands.raise_refused(outcomes)

# %% [markdown]
# ## Result

# %%
show.result(table, row, tier, reduction)

# %% [markdown]
# ## Recipe

# %%
show.recipe(planned)

# %% [markdown]
# ## Where the numbers come from

# %%
show.provenance(table, row, tier, reduction)

# %% [markdown]
# ## Training curves
#
# Solid: test error, on the right axis. Dashed: training loss, on the left. The baseline is drawn if it has been run.

# %%
show.curves(table, row, tier, reduction)
