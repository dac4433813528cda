"""Measurements of the game itself: its equilibrium, its Jacobian, checks.

Everything here is a pure function of a loss, or of a GAN and its state; nothing trains,
prints, or touches the disk, so that commands, notebooks and tests use it alike. `game`
has the mathematics of the game near its equilibrium; `loss_checks`, `penalty_checks`
and `step_checks` the verdicts of `python -m gan_jax.check`, by their `examine`, on the
networks of `toys`; `advice` what a run warns of before its first step. A new file
offers functions that return numbers or verdicts, with their source, and a test against
a closed form.
"""
