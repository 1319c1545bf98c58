"""All that draws or speaks to readers: the notebooks' and the book's pages, their pictures, and the building of both.

Alone here are matplotlib, plotly and IPython imported. Nothing that trains imports anything from here.
"""
