"""Towpath takes a commit to production: CI/CD as Dagger functions in Python."""
