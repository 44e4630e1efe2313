"""Tests of tinygrad_opt.rules."""
