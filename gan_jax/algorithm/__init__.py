"""The algorithm, pure: states, spaces, objectives of both players, steps."""
