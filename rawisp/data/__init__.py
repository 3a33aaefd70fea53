"""Annotated data: reading annotations, moving boxes along with images."""
