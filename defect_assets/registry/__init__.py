"""What made what: environment, code, releases, and the bento that is served."""
