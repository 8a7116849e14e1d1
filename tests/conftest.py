"""What holds for every test."""

import torch


def pytest_runtest_setup() -> None:
    """Seed torch before every test, so that what draws without a generator is the same in every run and order."""
    torch.manual_seed(0)
