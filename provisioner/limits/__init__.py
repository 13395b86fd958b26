"""Limits as a whole: what they need of a kernel, and whether those of a tree of slices fit together. Pure."""
