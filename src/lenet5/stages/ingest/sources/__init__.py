"""The kinds of sources: each module reads one format, and all of them give the same parts.

A kind is a module with one function, ``read(reader: Reader) -> Reading``; ``contract`` has the types.
``detect.open_source`` chooses the kind. CONTRIBUTING.md shows how to add one.
"""
