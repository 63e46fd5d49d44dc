"""Two-stage training of skip branches; the embedded models are made with it."""
