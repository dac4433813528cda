"""Machines to compile for that need not be there, and what a compiled program costs.

`target` describes a machine of GPUs or TPUs and gives its devices to the compiler; each
kind of chip is a file in `chips/`, with its figures and their source. `hlo` reads a
compiled program: operations, bytes and collectives. `roofline` turns them into a time.
Nothing here knows what a GAN is. A new chip is a new file in `chips/`.
"""
