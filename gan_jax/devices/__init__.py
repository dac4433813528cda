"""One device, many devices, several hosts."""
