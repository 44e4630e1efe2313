"""Tests of tinygrad_opt.optim."""
