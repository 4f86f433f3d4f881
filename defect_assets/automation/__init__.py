"""What makes assets materialize: by hand, and by themselves."""
