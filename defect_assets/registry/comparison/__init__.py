"""Models side by side: what differs, and what that did to the scores."""
