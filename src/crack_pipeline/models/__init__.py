"""Networks: `torch.nn.Module` and nothing else."""
