"""The embedded engine: Dagger's GraphQL API on bubblewrap, with no Docker and no daemon."""
