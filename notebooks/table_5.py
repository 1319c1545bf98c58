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
# # A row of Table 5: ImageNet
#
# Table 5 tests deep nets on ImageNet's validation images, a single crop each, and section 5 adds two results in its
# text. A net that is tested at two crops is trained once.

# %%
import sys
from importlib.util import find_spec

if find_spec("identity_mappings") is None:
    sys.path.insert(0, "../pkg")

from identity_mappings import commands
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.pages import show

# %% tags=["parameters"]
table = 5
# Another row: `152-original-320`; `invoke status` lists all.
row = "200-pre-activation-320"
# smoke: pictures that the library draws. pocket, quick: ten and a hundred of ImageNet's classes. paper: all.
# The larger tiers need ImageNet's folder: its path in the environment as IDENTITY_MAPPINGS_IMAGENET.
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
# Solid: top-1 error at the smaller crop, on the right axis. Dashed: training loss, on the left. The baseline is drawn
# if it has been run.

# %%
show.curves(table, row, tier, reduction)
