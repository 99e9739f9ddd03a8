"""The composition root: builds every object, starts, reloads, drains and stops the server."""
