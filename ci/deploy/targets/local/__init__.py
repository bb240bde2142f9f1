"""The local target: environments on this machine, behind Caddy, without Docker and root."""
