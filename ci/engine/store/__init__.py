"""The store: what was made, whole or not at all, shared by processes and kept within bounds."""
