"""What a cluster is made of: workers, models, the view of them, and the errors all parts share. Pure."""
