"""From the text of a config to a GAN."""
