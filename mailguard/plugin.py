"""The plugin author's whole world: everything a filter plugin may import."""
