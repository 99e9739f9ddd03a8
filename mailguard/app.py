"""Composition root: builds every object, starts, reloads, drains and stops the server."""
