"""The shop's price lists as a page: ``python -m catalogue prices page.html``."""
