"""The sandbox: runs one command over layers with bubblewrap, and leaves nothing behind."""
