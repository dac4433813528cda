"""Comparisons of samples with the data, one kind a file.

A metric is a pure function of two sets of examples or of their features, or of samples
and the parameters of a known distribution. It knows no run, config or network. A new
file offers such a function, which cites its definition and equals the reference
implementation on the same numbers; its test computes some values by hand. A line in
named.py, under `@metric`, gives it the name that commands and configs know it by.
"""
