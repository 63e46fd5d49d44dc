"""What can be learned from a model's features as it samples."""
