"""What experiments swap: losses, penalties, augmentations."""
