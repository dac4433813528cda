"""What the networks of several families share: layers, one kind a file.

A layer knows arrays `[batch, ...]` and nothing of GANs, spaces or configs. It may be
changed freely as long as the names of its parameters, their initial values and its
outputs stay: checkpoints hold them, and Flax names them after the classes here. A new
file offers a Flax module, or a function that applies one, which works in bfloat16 and
under `vmap`; the fields of gan_jax.models that switch it on bring its tests.
"""
