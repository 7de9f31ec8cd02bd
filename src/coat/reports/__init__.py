"""Plots, and every page that stands alone: evaluations, ablations, costs, probes, data, runs."""
