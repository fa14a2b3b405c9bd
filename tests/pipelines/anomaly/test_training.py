import json
import logging

import numpy as np
import pytest
import torch

from crack_pipeline.pipelines.anomaly import nodes, pictures, training
from crack_pipeline.pipelines.anomaly.parameters import VAE, Detector, Scoring, Simulated, Threshold
from crack_pipeline.pipelines.ingestion.parameters import Image

SIMULATED = {
    "simulation": {"width": [1.5, 5]},
    "network": {"name": "unet", "levels": 2, "base_channels": 4},
    "training": {"steps": 4, "steps_per_epoch": 2, "batch_size": 4, "validation_crops": 8, "augmentation": {}},
}
LIKELIEST = "likeliest_20px"


@pytest.fixture
def simulated():
    return Simulated.model_validate(SIMULATED)


@pytest.fixture
def train(images, manifest, partition, image, plan, tmp_path_factory):
    def trained(network, images=images, manifest=manifest, partition=partition):
        found = nodes.fingerprint_data(manifest, partition, image)
        checkpoints = tmp_path_factory.mktemp("checkpoints")
        return training.train_detector(images, manifest, partition, found, image, network, plan, checkpoints)

    return trained


def vae(**options):
    return VAE(**{"channels": (4, 8), "latent": 4, "epochs": 2, "batch_size": 2, **options})


class TestAutoencoder:
    def test_weights_carry_what_rebuilds_the_network(self, train, caplog):
        with caplog.at_level(logging.INFO, training.__name__):
            weights, history = train(vae())
        assert history["epoch"].tolist() == [0, 1]
        assert "training on 3 sound images for 2 epochs" in caplog.text
        assert "expect a weak detector" in caplog.text
        json.dumps(weights.facts)
        assert weights.facts["image"]["size"] == 16
        assert training.detector_of(weights).root == "vae"
        network = training.build_network(weights)
        assert all(torch.equal(network.state_dict()[name], weights.tensors[name]) for name in weights.tensors)

    def test_least_steps_make_more_epochs(self, train):
        _, history = train(vae(least_steps=9))
        assert len(history) == 5


class TestSimulatedCracks:
    @pytest.fixture
    def weights(self, train, simulated):
        return train(simulated)[0]

    @pytest.fixture
    def scoring(self):
        return Scoring.model_validate(
            {"candidates": [{"kind": "mse"}, {"kind": "likeliest", "pixels": 20}, {"kind": "likeliest", "pixels": 999}]}
        )

    def test_no_pixel_of_a_cracked_image_is_looked_at(self, train, images, simulated, weights):
        class Others(type(images)):
            def __init__(self):
                super().__init__()
                self.pixels[1::2] = 255 - self.pixels[1::2]

        again, _ = train(simulated, images=Others())
        assert all(torch.equal(again.tensors[name], weights.tensors[name]) for name in weights.tensors)
        brighter = Others()
        brighter.pixels[::2] += 9
        changed, _ = train(simulated, images=brighter)
        assert not all(torch.equal(changed.tensors[name], weights.tensors[name]) for name in weights.tensors)

    def test_its_scores_decide_from_validation_to_new_photographs(
        self, weights, scoring, images, manifest, partition, plan, report
    ):
        assert training.detector_of(weights).root == "simulated"
        validation = nodes.score_validation(weights, images, manifest, partition, scoring, plan)
        assert list(validation)[5:] == [LIKELIEST, "likeliest_999px", "contrast"]
        choice = nodes.choose_score(validation, scoring, report)
        assert choice["name"].startswith("likeliest")
        thresholds = nodes.choose_thresholds(validation, choice, Threshold())
        assert set(thresholds) == {choice["name"], "contrast"}
        detector = nodes.pack_detector(weights, choice, thresholds, Threshold(), plan)
        json.dumps(detector.facts)
        scores = nodes.score_new(detector, images, manifest, plan)
        metrics = nodes.measure_evaluation(scores, detector, report)
        assert (metrics["score"], metrics["others"]) == (choice["name"], {})
        drawn = pictures.draw_examples(detector, images, manifest, scores, plan, report)
        assert len(drawn) == 4
        assert len(list(pictures.draw_error_maps(detector, images, manifest, scores, plan, report))) == 1 + 3
        pictures.draw_evaluation(scores, detector)

    def test_its_score_is_the_mean_log_odds_of_the_likeliest_pixels(
        self, weights, scoring, images, manifest, partition, plan
    ):
        validation = nodes.score_validation(weights, images, manifest, partition, scoring, plan)
        network = training.build_network(weights).eval()
        with torch.inference_mode():
            logits = network(torch.from_numpy(images.pixels[6:12, None]) / 255).flatten(1).numpy()
        highest = np.sort(logits, axis=1)[:, -20:].mean(axis=1)
        np.testing.assert_allclose(validation[LIKELIEST], highest, rtol=1e-4, atol=1e-5)
        # An image has 256 pixels, so all of them are the likeliest 999.
        np.testing.assert_allclose(validation["likeliest_999px"], logits.mean(axis=1), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"candidates": [{"kind": "mse"}]},
                "none of anomaly.scoring.candidates is a score of the detector simulated",
            ),
            (
                {"candidates": [{"kind": "mse"}, {"kind": "likeliest"}], "use": "mse"},
                r"anomaly.scoring.use is mse, a score of another detector.* auto or one of \['likeliest_100px'\]",
            ),
        ],
    )
    def test_a_score_of_another_detector_is_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            Scoring.model_validate(options).of(Detector("simulated"))


class TestChecks:
    def check(self, image, kind, simulated, use="auto"):
        candidates = [{"kind": "mse"}, {"kind": "likeliest"}]
        scoring = Scoring.model_validate({"candidates": candidates, "use": use})
        return training.check_network(image, Detector(kind), VAE(), simulated, scoring)

    def test_a_size_that_cannot_be_halved_is_refused(self, simulated):
        with pytest.raises(ValueError, match=r"anomaly\.image\.size is 100.*divisible by 16"):
            self.check(Image(size=100), "vae", simulated)
        assert self.check(Image(size=96), "vae", simulated) == VAE()

    def test_images_smaller_than_two_cracks_are_refused(self, simulated):
        with pytest.raises(ValueError, match=r"anomaly\.image\.size is 31; .* at least 32: raise it, or lower"):
            self.check(Image(size=31), "simulated", simulated)
        assert self.check(Image(size=32), "simulated", simulated) == simulated
        wide = Simulated.model_validate(SIMULATED | {"simulation": {"width": [1.5, 20.2]}})
        with pytest.raises(ValueError, match=r"cracks of up to 20\.2 px it must be at least 41"):
            self.check(Image(size=40), "simulated", wide)

    @pytest.mark.parametrize(("kind", "use"), [("simulated", "mse"), ("vae", "likeliest_100px")])
    def test_a_score_of_another_detector_is_refused_before_anything_is_read(self, simulated, kind, use):
        with pytest.raises(ValueError, match=f"anomaly.scoring.use is {use}, a score of another detector"):
            self.check(Image(size=96), kind, simulated, use=use)

    @pytest.mark.parametrize("role", ["train", "validation"])
    @pytest.mark.parametrize("network", [vae(), Simulated.model_validate(SIMULATED)], ids=["vae", "simulated"])
    def test_a_role_without_sound_images_is_named(self, train, partition, role, network):
        with pytest.raises(ValueError, match=f"no sound image has the role {role}"):
            train(network, partition=partition[partition["role"] != role])

    def test_a_stack_of_another_run_is_refused(self, train, manifest):
        swapped = manifest.assign(row=manifest["row"].to_numpy()[::-1])
        with pytest.raises(ValueError, match="different runs"):
            train(vae(), manifest=swapped)
