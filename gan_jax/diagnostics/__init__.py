"""What tells whether a game is sound and how far it is from its equilibrium."""
