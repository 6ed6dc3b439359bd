"""Image files become pixels. Shipped with edge packages, so it needs Pillow and numpy alone."""
