"""From the text of a config to a GAN, checked before anything is compiled.

`builder.build` makes a GAN from names or objects; `preflight.check` traces it
abstractly and refuses in one line what does not fit. `names` finds code by its name,
ours or the user's; `networks`, `objectives` and `optimizers` read the texts of their
keys; `from_nnx` makes a Linen module of an NNX one. A new key of a config that
describes the GAN is read in `builder.build`, and checked in `preflight` if its mistakes
would show only during compilation.
"""
