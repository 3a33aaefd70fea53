"""Synthetic night scenes and the sample data made from them."""
