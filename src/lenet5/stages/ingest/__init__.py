"""Read the source, compare it with the pinned checksums, and store it as arrays in data/raw."""
