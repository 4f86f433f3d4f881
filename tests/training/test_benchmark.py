"""The parts of `benchmarks.training` that can be wrong without anybody noticing."""

import json

import numpy as np
import torch
from torch import nn

from benchmarks.reference import centre, pooled_dice, random_split
from benchmarks.trainers.bare import repeat
from benchmarks.trainers.shared import Job, Meter, PlainLoss
from defect_assets.training.loss import Loss

CONFIG = {"sampling": {"batch_size": 2}}


def test_the_bare_limit_takes_gradients_of_one_batch_and_is_timed(capsys):
    job = Job(images=[], classes=3, config=CONFIG, warmup=1, steps=3, bf16=False)
    network = nn.Conv2d(1, 3, 1)
    before = network.weight.detach().clone()
    meter = Meter(job)
    inputs, masks = torch.ones(2, 1, 8, 8), torch.ones(2, 8, 8, dtype=torch.long)
    repeat(network, Loss({"cross_entropy": 1.0}), inputs, masks, job, meter)
    meter.finish()
    measured = json.loads(capsys.readouterr().out)
    assert measured["images"] == 6
    assert measured["seconds"] > 0
    assert network.weight.grad.abs().sum() > 0
    assert torch.equal(network.weight, before)


def test_the_peers_loss_is_ours():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 16, 16)
    masks = torch.zeros(2, 16, 16, dtype=torch.long)
    for class_id in (1, 2, 3):
        masks[:, 4 * class_id : 4 * class_id + 2, 3:9] = class_id
    for weights in (
        {"cross_entropy": 1.0},
        {"dice": 1.0},
        {"class_dice": 1.0},
        {"defect_type": 0.5},
    ):
        torch.testing.assert_close(
            PlainLoss(weights)(logits, masks), Loss(weights)(logits, masks), rtol=1e-3, atol=1e-4
        )


def test_a_random_split_divides_all_images():
    train, test = random_split(10, seed=1)
    assert len(test) == 2
    assert sorted([*train, *test]) == list(range(10))
    assert random_split(10, seed=2)[1].tolist() != test.tolist()


def test_dice_is_pooled_over_pixels_and_on_the_centre_crop():
    truth, found = np.zeros((2, 6), bool), np.zeros((2, 6), bool)
    truth[:, 2], found[:, 2], found[:, 0] = True, True, True
    assert pooled_dice([(truth, found)]) == 2 * 2 / (2 * 2 + 2)
    assert pooled_dice([(centre(truth), centre(found))]) == 1
