"""Fetch MNIST, compare it with the pinned checksums, and keep it as arrays in data/raw."""
