"""What a kind of repository needs: how to detect it, and its commands."""
