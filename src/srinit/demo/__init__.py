"""The demo: a small network on handwritten digits, and the config that runs everything on it."""
