"""What holds on every engine that serves Dagger's API; see README.md beside this file."""
