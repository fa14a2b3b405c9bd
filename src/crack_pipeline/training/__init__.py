"""How networks are trained and run: device, precision and checkpoints live here."""
