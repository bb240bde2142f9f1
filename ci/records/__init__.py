"""Records of a run: run.json, the ledger, the HTML report."""
