"""Check the raw data with Great Expectations; bad data ends here, with the rows to blame kept aside."""
