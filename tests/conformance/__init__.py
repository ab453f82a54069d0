"""Independent judges: what others say of the documents of this server."""
