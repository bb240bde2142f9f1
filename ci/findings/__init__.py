"""Reports of tools become values: SARIF, Trivy, JUnit, coverage."""
