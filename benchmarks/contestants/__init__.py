"""Programs that are measured: each prints, as its last line, what it saw, as JSON.

Those of the peers run where nothing of the product is installed.
"""
