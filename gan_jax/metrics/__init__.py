"""What is measured of samples, one kind a file."""
