"""Trees of files: layers, how they merge, what is in them, and layers made without a sandbox."""
