"""The algorithm: pure functions over a `TrainState`, static in a `GAN`.

Start at `steps.train_step`. From there `dynamics.alternating` is Algorithm 1,
`steps.d_step` applies what `gradients.d_gradient` returns, and that is the objective.
All functions work unjitted, under `jit` (the `GAN` is static), `vmap` and on a mesh.
A new file here must be pure: no files, no flags, no names of a config. New losses,
penalties and augmentations go to gan_jax/objective, new dynamics to `dynamics`.
"""
