"""The detector as MLflow keeps it: as code that it runs when the model is loaded, so that nothing is unpickled."""

from mlflow.models import set_model

from crack_pipeline.serving.pyfunc import Detector

set_model(Detector())
