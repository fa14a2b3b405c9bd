"""How networks are trained and run: checkpoints live here."""
