"""Trained models as MLflow serves them: photographs in, answers out, prepared as in the training."""
