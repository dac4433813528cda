"""A run on disk and in time.

`training.train` trains an experiment in a folder and resumes it, `restore.load` opens a
folder to draw from it, `exported.write` writes a generator without its run; no module
here defines a flag. All states and metrics have a leading axis [replicas], also of one
run: the writers and the checkpoints remove it. A new output of a run is an `Output` in
writers.py and a line in `training._outputs`; a new kind of space is drawn by a function
in pictures.py (points: plots.py). What is on disk (file names, keys, the checkpoints'
format) is read by other programs: do not change it.
"""
