"""Image signal processors: modules from linear (B, 3, H, W) to display-ready (B, 3, H, W)."""
