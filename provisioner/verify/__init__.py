"""testinfra checks, generated from a desired graph: the independent witness of an apply."""
