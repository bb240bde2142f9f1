"""Services and their network: what is started for others to reach."""
