"""Check the raw data with Great Expectations; data that fails a check goes no further."""
