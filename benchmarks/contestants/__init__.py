"""The measured programs: the last line that each prints is its measurement, as JSON.

Those of the peers run where no package of the product is installed.
"""
