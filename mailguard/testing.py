"""Public test kit for mailguard and for plugin authors."""
