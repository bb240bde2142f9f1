"""Git: repositories as values, and the machine's ``git`` program, which fetches and compares."""
