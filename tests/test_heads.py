import torch

from coat.heads import make_head


def test_shapes_and_padding():
    for kind in ("transformer", "linear"):
        head = make_head(kind, 16, 5, num_heads=2, ffn_ratio=2.0).eval()
        hidden = torch.randn(2, 7, 16)
        mask = torch.ones(2, 7, dtype=torch.bool)
        mask[1, 4:] = False
        out = head(hidden, mask)
        assert out.shape == (2, 7, 5)
        changed = hidden.clone()
        changed[1, 4:] = 99.0  # what stands in the padding reaches no real frame
        torch.testing.assert_close(head(changed, mask)[mask], out[mask])
        torch.testing.assert_close(head(hidden[1:, :4], mask[1:, :4]), out[1:, :4])


def test_a_transformer_head_looks_both_ways():
    head = make_head("transformer", 16, 5, num_heads=2).eval()
    hidden = torch.randn(1, 6, 16, requires_grad=True)
    head(hidden, torch.ones(1, 6, dtype=torch.bool))[0, 2].sum().backward()
    assert (hidden.grad[0].abs().sum(-1) > 0).all()


def test_training_and_evaluation_give_the_same():
    head = make_head("transformer", 16, 5, num_heads=2)
    hidden, mask = torch.randn(2, 6, 16), torch.ones(2, 6, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(head.train()(hidden, mask), head.eval()(hidden, mask))
