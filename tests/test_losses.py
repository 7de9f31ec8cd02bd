import math

import torch
import torch.nn.functional as F

from coat.losses import focal_bce, masked_sum, response_cross_entropy


def test_cross_entropy_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    loss = response_cross_entropy(logits, torch.tensor([0, 2]))
    assert math.isclose(float(loss), -math.log(0.5) - math.log(0.8), rel_tol=1e-5)


def test_padding_never_counts():
    losses = torch.tensor([[1.0, 2.0, float("nan")], [3.0, float("inf"), 1e9]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert float(masked_sum(losses, mask)) == 6.0


def test_gamma_zero_is_plain_cross_entropy():
    logits, target = torch.randn(50), torch.rand(50)
    plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    torch.testing.assert_close(focal_bce(logits, target, gamma=0), plain)


def test_focal_by_hand_and_its_gradient():
    logits = torch.tensor([0.0], requires_grad=True)
    loss = focal_bce(logits, torch.tensor([1.0]), gamma=2.0)
    assert math.isclose(float(loss.detach()), 0.25 * math.log(2), rel_tol=1e-5)
    equal = torch.tensor([0.0], requires_grad=True)
    focal_bce(equal, torch.tensor([0.5])).sum().backward()
    assert torch.isfinite(equal.grad).all()
